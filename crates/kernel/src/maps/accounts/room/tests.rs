use std::collections::BTreeMap;

use super::*;

const MAX_HELD: usize = ACCOUNTS - 1;

fn busy(account: usize, recent_ns: u64) -> OwnedAccount {
    OwnedAccount { account, is_idle: false, recent_ns: Some(recent_ns) }
}

fn idle(account: usize) -> OwnedAccount {
    OwnedAccount { account, is_idle: true, recent_ns: Some(0) }
}

#[test]
fn while_some_are_free_nobody_loses_his() {
    assert_eq!(choose((1..=40).map(idle).collect(), 0, 0), [0; 0]);
    assert_eq!(choose((1..=40).map(|n| busy(n, 1)).collect(), 0, 1 << 40), [0; 0]);
}

#[test]
fn idle_ones_go_first_whoever_else_there_is() {
    let held =
        || (1..=MAX_HELD - 3).map(|n| busy(n, 10)).chain((MAX_HELD - 2..=MAX_HELD).map(idle));
    assert_eq!(choose(held().collect(), 0, 0), [MAX_HELD - 2, MAX_HELD - 1, MAX_HELD]);
    let chosen = choose(held().collect(), 0, 1000);
    assert_eq!(chosen[..4], [MAX_HELD - 2, MAX_HELD - 1, MAX_HELD, 1]);
    assert_eq!(chosen.len(), FREE_WANTED);
}

#[test]
fn then_those_who_did_the_least() {
    let held = (1..=MAX_HELD).map(|n| busy(n, 1000 - n as u64)).collect();
    let chosen = choose(held, 0, 1 << 40);
    assert_eq!(chosen, (MAX_HELD - FREE_WANTED + 1..=MAX_HELD).rev().collect::<Vec<_>>());
    // Some are on their way already.
    let held = (1..=MAX_HELD - 10).map(|n| busy(n, n as u64)).collect();
    assert_eq!(choose(held, 10, 1 << 40), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn one_more_who_does_little_is_no_reason() {
    assert_eq!(choose((1..=MAX_HELD).map(|n| busy(n, 100)).collect(), 0, 400), [0; 0]);
    assert_eq!(choose((1..=MAX_HELD).map(|n| busy(n, 100)).collect(), 0, 401).len(), FREE_WANTED);
    assert_eq!(choose((1..=MAX_HELD).map(|n| busy(n, 100)).collect(), 0, 0), [0; 0]);
}

#[test]
fn who_came_a_moment_ago_was_not_measured_and_stays() {
    let new = |account| OwnedAccount { account, is_idle: false, recent_ns: None };
    let held = (1..=MAX_HELD - 1).map(new).chain([busy(MAX_HELD, 5)]).collect();
    assert_eq!(choose(held, 0, 1 << 40), [MAX_HELD]);
}

/// Plays writers, each given by its requests per second and the work of one request
/// in ns, and returns the writers that have an account after each second.
fn play(writers: &[(u64, u64)], seconds: usize, mut seed: u64) -> Vec<Vec<usize>> {
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut seen = vec![Seen::default(); ACCOUNTS];
    // Owners by account.
    let mut owners: BTreeMap<usize, usize> = BTreeMap::new();
    let mut history = Vec::new();
    for _ in 0..seconds {
        let mut requests: Vec<_> = writers
            .iter()
            .enumerate()
            .flat_map(|(writer, (count, _))| vec![writer; *count as usize])
            .collect();
        let length = requests.len();
        (0..length).for_each(|at| requests.swap(at, random(length)));
        let mut done = [0; ACCOUNTS];
        let mut found = vec![0; writers.len()];
        owners.iter().for_each(|(account, writer)| found[*writer] = *account);
        let is_free = |n: &usize| !owners.contains_key(n) && !seen[*n].leaving;
        let mut free: Vec<_> = (1..ACCOUNTS).rev().filter(is_free).collect();
        for writer in requests {
            if found[writer] == 0
                && let Some(account) = free.pop()
            {
                found[writer] = account;
                owners.insert(account, writer);
            }
            done[found[writer]] += writers[writer].1;
        }
        for (seen, work_ns) in seen.iter_mut().zip(done) {
            seen.note_work(work_ns);
        }
        for seen in seen.iter_mut().filter(|seen| seen.leaving) {
            seen.leaving = false;
            seen.reset();
        }
        let held = owners.keys().map(|&account| {
            let recent_ns = (seen[account].ticks > 1).then_some(seen[account].recent_ns);
            OwnedAccount { account, is_idle: false, recent_ns }
        });
        for account in choose(held.collect(), 0, seen[0].recent_ns) {
            owners.remove(&account);
            seen[account].leaving = true;
        }
        history.push(owners.values().copied().collect());
    }
    history
}

#[test]
fn a_heavy_one_among_many_has_an_account_soon_and_keeps_it() {
    const US: u64 = 1000;
    // A hundred who write ten times a second were there before.
    for (heavy, soon) in [((500, 100 * US), 4), ((30, 5000 * US), 10)] {
        for seed in 0..8 {
            let mut writers = vec![(10, 100 * US); 110];
            writers.push(heavy);
            let history = play(&writers, 40, seed);
            let has = |held: &Vec<usize>| held.contains(&110);
            let first = history.iter().position(has).expect("it has one");
            assert!(first < soon, "seed {seed}: after {first} seconds");
            // Once it was measured it stays.
            assert!(history[first + 2..].iter().all(has), "seed {seed}: it loses it");
        }
    }
}
