//! The address of an agent, as a command is given it.

use std::{fmt, path::PathBuf, str::FromStr};

/// The port that an agent listens on.
const PORT: u16 = 9464;

/// How it is to be written.
const FORMS: &str = "write it like http://node:9464 or unix:/run/tracer.sock";

/// An agent that is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AgentUrl {
    /// A host and a port, and what to show to it: `user:password`.
    Http { host: String, port: u16, login: Option<String> },
    /// The path of its socket.
    Socket(PathBuf),
}

impl FromStr for AgentUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Socket(path.into())),
                false => Err(format!("a socket has a path from the root: {FORMS}")),
            };
        }
        if text.starts_with("https://") {
            return Err(
                "TLS is not spoken here: get the recording with `curl -u USER --cacert CA \
                        -o night.rec 'https://NODE:9464/api/v1/recording?from=…&to=…'` and give \
                        that file, or use `ssh -L 9464:localhost:9464 NODE`"
                    .to_owned(),
            );
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| FORMS.to_owned())?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.rfind(':').filter(|at| !rest[*at..].contains(']')) {
            Some(at) => (&rest[..at], rest[at + 1..].parse().ok()),
            None => (rest, Some(PORT)),
        };
        let of_an_address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => !inside.is_empty() && inside.chars().all(of_an_address),
            None => !host.is_empty() && host.chars().all(of_a_name),
        };
        match port.filter(|_| is_host) {
            Some(port) => Ok(Self::Http { host: host.to_owned(), port, login }),
            None => Err(FORMS.to_owned()),
        }
    }
}

/// Without what is shown to it.
impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port, .. } => write!(f, "http://{host}:{port}"),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, host: &str, port: u16, login: Option<&str>) {
        let login = login.map(str::to_owned);
        let expected = AgentUrl::Http { host: host.to_owned(), port, login };
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }

    #[test]
    fn an_agent_is_a_host_with_a_port_or_a_socket() {
        check("http://node:9464", "node", 9464, None);
        check("http://node-1.example/", "node-1.example", 9464, None);
        check("http://[::1]:80", "[::1]", 80, None);
        check("http://[::1]", "[::1]", 9464, None);
        check("http://me:a@b@127.0.0.1:1", "127.0.0.1", 1, Some("me:a@b"));
        for text in ["unix:/run/tracer.sock", "unix:///run/tracer.sock"] {
            assert_eq!(text.parse(), Ok(AgentUrl::Socket("/run/tracer.sock".into())));
        }
        let shown = "http://me:secret@node".parse::<AgentUrl>().unwrap().to_string();
        assert_eq!(shown, "http://node:9464");
    }

    #[test]
    fn nonsense_is_refused_with_how_it_is_written() {
        for text in
            ["", "node:9464", "http://", "http://node:x", "http://a b", "http://n/x", "ftp://n"]
        {
            let why = text.parse::<AgentUrl>().unwrap_err();
            assert!(why.contains("http://node:9464"), "{text}: {why}");
        }
        assert!("unix:run".parse::<AgentUrl>().unwrap_err().contains("from the root"));
        assert!("https://node".parse::<AgentUrl>().unwrap_err().contains("curl"));
    }
}
