//! A running agent, and what it serves.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::subject::Tracer;

const SECOND: Duration = Duration::from_secs(1);

/// The time that a start may take if every instruction is emulated.
const START: Duration = Duration::from_secs(120);

/// An address on which nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub struct Agent {
    pub tracer: Tracer,
    pub address: SocketAddr,
}

impl Agent {
    /// Starts an agent with this configuration, and waits until it is ready.
    pub fn start(config: &Path) -> Self {
        Self::start_at(free_address(), config)
    }

    /// Starts an agent at an address of the caller's choice.
    pub fn start_at(address: SocketAddr, config: &Path) -> Self {
        let config = config.to_str().unwrap();
        let args = ["agent", "--listen", &address.to_string(), "--config", config];
        Self::until_ready(Tracer::start(&args), address)
    }

    /// Waits until an agent that was started is ready.
    #[track_caller]
    pub fn until_ready(tracer: Tracer, address: SocketAddr) -> Self {
        let mut agent = Self { tracer, address };
        let end = Instant::now() + START;
        while agent.try_get("/readyz", "").map(|answer| answer.0) != Some(200) {
            let ended = agent.tracer.has_ended();
            let is_late = Instant::now() > end;
            assert!(!ended && !is_late, "it is not ready; it said:\n{}", agent.tracer.transcript());
            sleep(SECOND / 5);
        }
        agent
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + 30 * SECOND;
        while !is_so() {
            assert!(Instant::now() < end, "not: {what}; it said:\n{}", self.tracer.transcript());
            sleep(SECOND / 5);
        }
    }

    /// The status, the head and the body of an answer.
    pub fn try_get(&self, path: &str, accept: &str) -> Option<(u16, String, String)> {
        self.try_get_within(10 * SECOND, path, accept)
    }

    /// As [`Agent::try_get`], for an answer that may take this time.
    pub fn try_get_within(
        &self,
        time: Duration,
        path: &str,
        accept: &str,
    ) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(time)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, head.to_owned(), body.to_owned()))
    }

    #[track_caller]
    pub fn get(&self, path: &str, accept: &str) -> (String, String) {
        let (status, head, body) = self.try_get(path, accept).expect("an answer");
        assert_eq!(status, 200, "{path}: {head}\n{body}");
        (head, body)
    }

    pub fn metrics(&self) -> String {
        self.get("/metrics", "").1
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path, "").1).expect("JSON")
    }
}
