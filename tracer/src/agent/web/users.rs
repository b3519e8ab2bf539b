//! Checks passwords, without letting anybody take the node's CPUs by asking.
//!
//! bcrypt is slow on purpose: 50 ms a check at its usual cost. So two checks run at
//! a time at most, in threads of their own, a wrong password keeps its place for
//! a while longer, and what was found out is remembered. Right and wrong ones are
//! remembered apart: a flood of wrong ones pushes out no right one, and whoever
//! scrapes every few seconds is checked once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Passwords that are checked at the same time, at most.
pub const AT_A_TIME: usize = 2;

/// Passwords that are remembered: this many right ones, and this many wrong ones.
const REMEMBERED: usize = 128;

/// A wrong password keeps its place for this long after its check.
const PAUSE: Duration = Duration::from_millis(250);

/// A user that does not exist takes as long as one that does: this is the hash of
/// no password that anybody knows, at the usual cost.
const NOBODY: &str = "$2b$10$.....................................................";

type Check = [u8; 32];

/// Users' hashes by name.
pub type Hashes = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Users {
    places: Arc<Semaphore>,
    known: Arc<Mutex<Checked>>,
}

#[derive(Debug, Default)]
struct Checked {
    right: VecDeque<Check>,
    wrong: VecDeque<Check>,
}

impl Checked {
    fn recall(&self, check: &Check) -> Option<bool> {
        let is_in = |list: &VecDeque<Check>| list.contains(check);
        is_in(&self.right).then_some(true).or_else(|| is_in(&self.wrong).then_some(false))
    }

    fn remember(&mut self, check: Check, is_right: bool) {
        let list = if is_right { &mut self.right } else { &mut self.wrong };
        if list.len() == REMEMBERED {
            list.pop_front();
        }
        list.push_back(check);
    }
}

impl Default for Users {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), known: Arc::default() }
    }
}

impl Users {
    /// Whether a request with this `Authorization` is from one of them.
    pub async fn are_asked_by(&self, hashes: &Hashes, given: Option<&HeaderValue>) -> bool {
        let Some((user, password)) = given.and_then(credentials) else { return false };
        let hash = hashes.get(&user);
        let is_somebody = hash.is_some();
        let hash = hash.map_or(NOBODY, String::as_str).to_owned();
        // With the hash in it, a password that was changed is not known any more.
        let check = check_of(&[hash.as_bytes(), user.as_bytes(), &password]);
        if let Some(known) = self.recall(&check) {
            return known;
        }
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        // While this one waited, another with the same password may have been checked.
        if let Some(known) = self.recall(&check) {
            return known;
        }
        let memory = Arc::clone(&self.known);
        let verify = spawn_blocking(move || {
            // A client that goes away meanwhile does not free the place.
            let _place = place;
            let matches = bcrypt::verify(&password, &hash).unwrap_or(false);
            let is_right = matches && is_somebody;
            held(&memory).remember(check, is_right);
            if !is_right {
                thread::sleep(PAUSE);
            }
            is_right
        });
        verify.await.unwrap_or(false)
    }

    fn recall(&self, check: &Check) -> Option<bool> {
        held(&self.known).recall(check)
    }
}

fn held(known: &Mutex<Checked>) -> MutexGuard<'_, Checked> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands for a password in memory, with the length of each part before it.
fn check_of(parts: &[&[u8]]) -> Check {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// User and password of `Basic …`.
fn credentials(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, coded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = STANDARD.decode(coded.trim()).ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(plain.get(..colon)?.to_vec()).ok()?;
    Some((user, plain.get(colon + 1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn hashes(cost: u32) -> Hashes {
        [("scraper".to_owned(), bcrypt::hash("secret", cost).unwrap())].into()
    }

    fn basic(user: &str, password: &str) -> HeaderValue {
        let coded = STANDARD.encode(format!("{user}:{password}"));
        HeaderValue::from_str(&format!("Basic {coded}")).unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn only_the_right_password_of_that_user_will_do() {
        let (users, hashes) = (Users::default(), hashes(4));
        run(async {
            for _ in 0..2 {
                for (user, password, may) in [
                    ("scraper", "secret", true),
                    ("scraper", "wrong", false),
                    ("nobody", "secret", false),
                    ("", "", false),
                ] {
                    let header = basic(user, password);
                    assert_eq!(users.are_asked_by(&hashes, Some(&header)).await, may, "{user}");
                }
                assert!(!users.are_asked_by(&hashes, None).await);
            }
            for nonsense in ["", "Basic", "Basic !", "Bearer c2NyYXBlcjpzZWNyZXQ=", "Basic YQ=="] {
                let header = HeaderValue::from_str(nonsense).unwrap();
                assert!(!users.are_asked_by(&hashes, Some(&header)).await, "{nonsense}");
            }
            let lower = HeaderValue::from_str("basic c2NyYXBlcjpzZWNyZXQ=").unwrap();
            assert!(users.are_asked_by(&hashes, Some(&lower)).await);
        });
    }

    #[test]
    fn nobodys_hash_is_as_dear_as_usual_and_nobodys() {
        let parts: bcrypt::HashParts = NOBODY.parse().unwrap();
        assert_eq!(parts.get_cost(), 10);
        assert!(!bcrypt::verify("", NOBODY).unwrap());
    }

    #[test]
    fn a_password_that_was_changed_is_not_remembered() {
        let users = Users::default();
        run(async {
            let header = basic("scraper", "secret");
            assert!(users.are_asked_by(&hashes(4), Some(&header)).await);
            let changed = [("scraper".to_owned(), bcrypt::hash("other", 4).unwrap())].into();
            assert!(!users.are_asked_by(&changed, Some(&header)).await);
        });
    }

    /// A flood of wrong passwords runs two checks at a time, and a right one that was
    /// seen before does not wait for it.
    #[test]
    fn a_flood_of_wrong_passwords_keeps_two_threads_busy_and_nobody_out() {
        let (users, hashes) = (Arc::new(Users::default()), Arc::new(hashes(4)));
        run(async {
            let right = basic("scraper", "secret");
            assert!(users.are_asked_by(&hashes, Some(&right)).await);
            let began = Instant::now();
            let flood: Vec<_> = (0..8)
                .map(|n| {
                    let (users, hashes) = (Arc::clone(&users), Arc::clone(&hashes));
                    let header = basic("scraper", &format!("wrong {n}"));
                    tokio::spawn(async move { users.are_asked_by(&hashes, Some(&header)).await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert_eq!(users.places.available_permits(), 0);
            assert!(users.are_asked_by(&hashes, Some(&right)).await);
            assert!(began.elapsed() < PAUSE, "it waited for {:?}", began.elapsed());
            for one in flood {
                assert!(!one.await.unwrap());
            }
            // Eight in two places are four pauses after each other.
            assert!(began.elapsed() >= PAUSE * 4, "only {:?}", began.elapsed());
        });
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut known = Checked::default();
        known.remember([1; 32], true);
        for n in 0..1000_u64 {
            known.remember(check_of(&[&n.to_le_bytes()]), false);
        }
        assert_eq!((known.wrong.len(), known.recall(&[1; 32])), (REMEMBERED, Some(true)));
    }
}
