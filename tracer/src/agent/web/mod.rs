//! Finds out who may ask the agent: TLS, passwords, and the name it is called by.
//!
//! [`mod@file`] reads a web-config file as Prometheus and its exporters have it, and
//! [`tls`] makes of it what rustls takes. [`users`] checks passwords away from the
//! event loop, and [`names`] finds out whether a client was led here by somebody
//! else's name. [`gate`] holds what is in force and follows the files as they
//! change. None of this knows what is served.

pub mod file;
pub mod gate;
pub mod names;
pub mod tls;
pub mod users;
