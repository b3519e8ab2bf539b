//! Whether a request calls the agent by a name of its own.
//!
//! A page on any site can have its own name point to 127.0.0.1, and then its
//! scripts may read what the browser gets from there (DNS rebinding). Such a
//! request says the site's name in `Host`. So the agent answers to the address
//! that the connection came in by, to those of the loopback and `localhost`, and to
//! the names that its user gave it. Ports are not compared: a forwarded one is
//! another.

use std::net::{IpAddr, Ipv6Addr};

/// The longest name of a host.
const LONGEST: usize = 253;

/// Whether `host`, as it stands in a request, is the agent's.
///
/// `local` is the address that the connection came in by, `bound` the one that
/// the agent listens on, and `allowed` lists its other names.
pub fn is_ours(host: &str, local: IpAddr, bound: IpAddr, allowed: &[String]) -> bool {
    let Some(name) = name_of(host) else { return false };
    if let Some(address) = address_of(name) {
        let ours = [local, bound].map(|ours| ours.to_canonical());
        return address.is_loopback()
            || ours.contains(&address)
            || allowed.iter().any(|name| address_of(name) == Some(address));
    }
    let plain = name.strip_suffix('.').unwrap_or(name);
    plain.eq_ignore_ascii_case("localhost")
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(plain))
}

/// Checks a name that the agent is to answer to.
pub fn parse(text: &str) -> Result<String, String> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = !text.is_empty() && text.len() <= LONGEST && text.chars().all(is_of_a_name);
    if is_name || address_of(text).is_some() {
        return Ok(text.strip_suffix('.').unwrap_or(text).to_owned());
    }
    Err("must be a name or an address, without a port".to_owned())
}

/// The host without its port; `None` where it is neither.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            // Brackets are for addresses of IPv6 alone.
            inside.parse::<Ipv6Addr>().ok()?;
            (inside, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    (!name.is_empty() && port.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

fn address_of(name: &str) -> Option<IpAddr> {
    let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str, local: &str) -> bool {
        let allowed = ["node-1.example".to_owned(), "10.96.0.7".to_owned()];
        is_ours(host, local.parse().unwrap(), "::".parse().unwrap(), &allowed)
    }

    #[test]
    fn an_address_it_listens_on_and_localhost_are_its_names() {
        for host in [
            "localhost",
            "LocalHost:9464",
            "localhost.",
            "127.0.0.1:9464",
            "127.0.0.1",
            "[::1]:8080",
            "10.0.0.7:9464",
            "[::ffff:10.0.0.7]:9464",
            "[::]:9464",
            "Node-1.Example:443",
            "node-1.example.",
            "10.96.0.7:9464",
        ] {
            assert!(ours(host, "::ffff:10.0.0.7"), "{host}");
        }
        assert!(ours("[2001:db8::7]:9464", "2001:db8::7"));
    }

    #[test]
    fn a_name_that_somebody_else_chose_is_not() {
        for host in [
            "",
            "x",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.8:9464",
            "0.0.0.0:9464",
            "[::2]",
            "[::1",
            "::1",
            "[localhost]",
            "localhost:9464:1",
            "localhost:port",
            "user@localhost",
            "localhost/",
            "[node-1.example]",
        ] {
            assert!(!ours(host, "10.0.0.7"), "{host}");
        }
        assert!(!is_ours("10.0.0.7", [10, 0, 0, 8].into(), [10, 0, 0, 8].into(), &[]));
    }

    #[test]
    fn names_are_given_without_ports() {
        for name in ["node-1", "tracer.tracer.svc", "10.0.0.7", "::1", "[::1]"] {
            assert!(parse(name).is_ok(), "{name}");
        }
        for nonsense in ["", "a:1", "a b", "http://a", "*", &"a".repeat(300)] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
