//! Clients that put into etcd at a steady rate.

use anyhow::Result;

use crate::{
    etcd::{Client, Etcd},
    pace::{Pace, PacedWork},
};

/// Keys that the clients write again and again, so that the database stays
/// small.
const KEYS: u32 = 1000;
const VALUE_BYTES: usize = 1024;

/// Puts that run in the background until stopped or dropped.
#[derive(Debug)]
pub struct Puts(Pace);

impl Puts {
    /// Starts the clients. `per_second` is the sum over all of them; each has at most one put
    /// under way.
    pub fn start(etcd: &Etcd, per_second: u32, clients: u32) -> Result<Puts> {
        let steps = (0..clients.max(1)).map(|number| client(etcd.client(), number)).collect();
        Ok(Puts(Pace::start("lab-client", per_second, steps)?))
    }

    /// Returns the puts since the last `drain`, and resets them.
    pub fn drain(&self) -> PacedWork {
        self.0.drain()
    }

    pub fn stop(self) -> PacedWork {
        self.0.stop()
    }
}

fn client(client: Client, number: u32) -> impl FnMut() -> Result<()> + Send + 'static {
    let value = vec![b'v'; VALUE_BYTES];
    let mut turn = 0;
    move || {
        turn = (turn + 1) % KEYS;
        client.put(format!("lab/{number}/{turn}").as_bytes(), &value)
    }
}
