use proptest::prelude::*;

use super::*;

/// A request that is submitted at a tick and completes `age` ticks later.
#[derive(Clone, Copy, Debug)]
struct Request {
    submitted: u64,
    age: u64,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request =
        (0u64..5_000_000, 0u64..1_000_000).prop_map(|(submitted, age)| Request { submitted, age });
    prop::collection::vec(request, 0..200)
}

/// The account as the kernel would have left it at `now`.
fn account_at(requests: &[Request], boot: u64, now: u64) -> (u64, u64) {
    let (mut word, mut done) = (0u64, 0u64);
    for r in requests {
        let submitted = boot + r.submitted;
        if submitted <= now {
            word = word.wrapping_add(submission(submitted));
        }
        if submitted + r.age <= now {
            done += r.age;
            word = word.wrapping_sub(submission(submitted));
        }
    }
    (word, done)
}

/// Event by event: every tick of every request that lies in the window.
fn brute_force(requests: &[Request], boot: u64, from: u64, to: u64) -> u64 {
    requests
        .iter()
        .map(|r| {
            let (submitted, end) = (boot + r.submitted, boot + r.submitted + r.age);
            end.min(to).saturating_sub(submitted.max(from))
        })
        .sum()
}

proptest! {
    /// The difference of two integrals is what a simulation counts, from the
    /// first second of uptime to its second year.
    #[test]
    fn integrals_match_a_simulation(
        requests in requests(),
        boot in 0u64..1 << 48,
        from in 0u64..3_000_000,
        span in 0u64..3_000_000,
    ) {
        let (from, to) = (boot + from, boot + from + span);
        let (w0, d0) = account_at(&requests, boot, from);
        let (w1, d1) = account_at(&requests, boot, to);
        let integral = Moment::at(to).integral(w1, d1).wrapping_sub(Moment::at(from).integral(w0, d0));
        prop_assert_eq!(integral, brute_force(&requests, boot, from, to));
    }

    #[test]
    fn an_account_whose_requests_all_ended_is_zero(requests in requests()) {
        let (word, _) = account_at(&requests, 77, u64::MAX >> 8);
        prop_assert_eq!(word, 0);
    }

    #[test]
    fn the_count_in_flight_is_exact(requests in requests(), now in 0u64..6_000_000) {
        let (word, _) = account_at(&requests, 0, now);
        let alive = requests.iter().filter(|r| r.submitted <= now && now < r.submitted + r.age);
        prop_assert_eq!(Moment::at(now).in_flight(word), alive.count() as u64);
    }
}

/// In the last second of the first year, the youngest and the oldest that may be.
#[test]
fn ten_thousand_in_flight_are_counted() {
    let now = 365 * 86_400 * (1_000_000_000 >> TICK_SHIFT);
    for n in [1, 2, 999, 10_000] {
        for ages in [0, (submission(now) / 2 / n).min(1 << 30)] {
            let word = n * submission(now - ages);
            assert_eq!(Moment::at(now).in_flight(word), n, "{ages}");
        }
    }
}

/// Five ticks more were taken away than were added.
#[test]
fn a_word_below_zero_is_nobody() {
    let now = Moment::at(1_000_000);
    assert_eq!(now.in_flight(5u64.wrapping_neg()), 0);
    assert_eq!(now.integral(5u64.wrapping_neg(), 0), 5);
}

/// A reader whose clock is older than a submission that it already sees.
#[test]
fn a_submission_after_the_readers_clock_is_no_age() {
    let now = 1_000_000;
    let word = submission(now + 3);
    assert_eq!(Moment::at(now).in_flight(word), 1);
    assert_eq!(Moment::at(now).integral(word, 0) as i64, -3);
}
