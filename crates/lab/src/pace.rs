//! Steady work: threads that repeat a step at a given rate until they are stopped, and
//! measure how long each step took.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

/// The highest latency that is recorded exactly, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// The operations since the last [`Pace::drain`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PacedWork {
    pub done: u64,
    pub errors: u64,
    /// One of the errors, as an example.
    pub last_error: Option<String>,
    /// Median latency, from the beginning of an operation to its end. A worker that is late
    /// skips operations, so these are not the latencies that clients of an open queue would
    /// see.
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// Workers that run until this is stopped or dropped.
#[derive(Debug)]
pub struct Pace {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    stop: bool,
    latencies_us: Histogram<u64>,
    errors: u64,
    last_error: Option<String>,
}

impl Pace {
    /// Starts one worker for each step, which together take `per_second`
    /// steps, spread evenly.
    pub fn start<F>(name: &str, per_second: u32, steps: Vec<F>) -> Result<Pace>
    where
        F: FnMut() -> Result<()> + Send + 'static,
    {
        let state = State {
            stop: false,
            latencies_us: Histogram::new_with_bounds(1, LONGEST_US, 3)
                .context("hdrhistogram refused the bounds")?,
            errors: 0,
            last_error: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), stopped: Condvar::new() });
        let beat = Duration::from_secs(1) / per_second.max(1);
        let period = beat * u32::try_from(steps.len())?;
        let mut pace = Pace { shared, workers: Vec::new() };
        let start = Instant::now();
        for (number, step) in (0..).zip(steps) {
            let shared = Arc::clone(&pace.shared);
            let first = start + beat * number;
            let worker = thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || shared.work(step, first, period))
                .with_context(|| format!("failed to start a thread for `{name}`"))?;
            pace.workers.push(worker);
        }
        Ok(pace)
    }

    /// Returns the work since the last `drain`, and resets it.
    pub fn drain(&self) -> PacedWork {
        let mut state = self.shared.lock();
        let quantile = |q| Duration::from_micros(state.latencies_us.value_at_quantile(q));
        let work = PacedWork {
            done: state.latencies_us.len(),
            errors: state.errors,
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: Duration::from_micros(state.latencies_us.max()),
            last_error: state.last_error.clone(),
        };
        state.latencies_us.reset();
        state.errors = 0;
        state.last_error = None;
        work
    }

    /// Waits for the steps under way, and returns the work since the last `drain`.
    pub fn stop(mut self) -> PacedWork {
        self.end();
        self.drain()
    }

    fn end(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                eprintln!("lab: a worker panicked");
            }
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut step: impl FnMut() -> Result<()>, first: Instant, period: Duration) {
        let mut next = first;
        while self.sleep_until(next) {
            let start = Instant::now();
            let result = step();
            let end = Instant::now();
            let mut state = self.lock();
            match result {
                Ok(()) => {
                    let us = u64::try_from((end - start).as_micros()).unwrap_or(LONGEST_US);
                    state.latencies_us.saturating_record(us);
                }
                Err(error) => {
                    state.errors += 1;
                    state.last_error = Some(format!("{error:#}"));
                }
            }
            next = (next + period).max(end);
        }
    }

    /// Returns false once the workers are to stop.
    fn sleep_until(&self, moment: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if state.stop {
                return false;
            }
            let Some(left) = moment.checked_duration_since(Instant::now()) else { return true };
            if left.is_zero() {
                return true;
            }
            state =
                self.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use anyhow::bail;

    use super::Pace;

    #[test]
    fn stopping_does_not_wait_for_the_next_beat() {
        let start = Instant::now();
        let pace = Pace::start("test", 1, vec![|| Ok(()); 60]).unwrap();
        drop(pace);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn errors_are_counted_apart_and_taken_once() {
        let pace = Pace::start("test", 1000, vec![|| bail!("no")]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let work = pace.stop();
        assert!(work.errors > 0 && work.done == 0, "{work:?}");
        assert_eq!(work.last_error.as_deref(), Some("no"));
    }
}
