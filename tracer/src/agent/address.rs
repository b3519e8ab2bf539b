//! The one address that the agent listens on.
//!
//! `[::]` means all addresses of both families here, whatever
//! `net.ipv6.bindv6only` says: a pod may have an IPv6 address only, an IPv4 one
//! only, or both, and the same manifest serves all three. A kernel without IPv6
//! (`ipv6.disable=1`, or a filter of address families) has no such socket; there
//! `[::]` means `0.0.0.0`. Every other address is taken as it is, and alone.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind as bind_socket,
    listen as listen_on, setsockopt, socket, sockopt,
};

/// Connections that wait for the agent; the kernel's own limit may be lower.
const WAITING: i32 = 128;

/// Takes the address.
///
/// # Errors
///
/// When it is taken already, or not this machine's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_by(address, open)
}

fn bind_by(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<TcpListener> {
    match open(address) {
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.ip() == Ipv6Addr::UNSPECIFIED =>
        {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let SocketAddr::V6(all) = address else { return TcpListener::bind(address) };
    if !all.ip().is_unspecified() {
        return TcpListener::bind(address);
    }
    // The standard library leaves it to the machine's settings whether IPv4 is served too.
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    bind_socket(socket.as_raw_fd(), &SockaddrIn6::from(all))?;
    listen_on(&socket, Backlog::new(WAITING)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::TcpStream};

    use nix::sys::socket::getsockopt;

    use super::*;

    fn parse(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// The addresses that are tried on a kernel that refuses IPv6 with this error.
    fn tried(address: &str, refusal: i32) -> (Vec<String>, Option<i32>) {
        let tried = RefCell::new(Vec::new());
        let result = bind_by(parse(address), |address| {
            tried.borrow_mut().push(address.to_string());
            match address {
                SocketAddr::V4(_) => TcpListener::bind("127.0.0.1:0"),
                SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(refusal)),
            }
        });
        (tried.into_inner(), result.err().and_then(|error| error.raw_os_error()))
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let listener = match bind(parse("[::]:0")) {
            Ok(listener) => listener,
            Err(error) => panic!("{error}"),
        };
        let address = listener.local_addr().unwrap();
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
        // A machine without IPv6 serves IPv4 alone.
        if TcpListener::bind("[::1]:0").is_ok() {
            assert!(address.is_ipv6(), "{address}");
            assert!(!getsockopt(&listener, sockopt::Ipv6V6Only).unwrap());
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
        }
        // Both families are taken.
        let again = |address: &str| bind(parse(address)).map_err(|error| error.kind()).err();
        assert_eq!(again(&format!("0.0.0.0:{}", address.port())), Some(io::ErrorKind::AddrInUse));
        assert_eq!(again(&format!("[::]:{}", address.port())), Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn without_ipv6_all_addresses_are_those_of_ipv4_and_no_others() {
        let unsupported = libc::EAFNOSUPPORT;
        let both = ["[::]:9464", "0.0.0.0:9464"].map(str::to_owned).to_vec();
        assert_eq!(tried("[::]:9464", unsupported), (both, None));
        // Somebody who names one address does not get all of them instead.
        let one = vec!["[::1]:9464".to_owned()];
        assert_eq!(tried("[::1]:9464", unsupported), (one, Some(unsupported)));
        // An address in use is an error, and no reason to take another.
        let all = vec!["[::]:9464".to_owned()];
        assert_eq!(tried("[::]:9464", libc::EADDRINUSE), (all, Some(libc::EADDRINUSE)));
    }

    #[test]
    fn an_address_of_this_machine_is_served_alone() {
        let listener = bind(parse("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listener.local_addr().unwrap(), parse(&format!("127.0.0.1:{port}")));
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_err());
    }
}
