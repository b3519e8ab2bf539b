//! TCP sockets of this node: who listens on a port, and who is at the other end of
//! a connection within the node.
//!
//! `/proc/<pid>/net/tcp` and `tcp6` go in; rows come out, and sockets by their
//! inode, which descriptors name.

use crate::tree::{Tree, number};

/// More than a busy node has.
const TABLE_BYTES: usize = 16 << 20;

const LISTEN: &[u8] = b"0A";

/// One socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Socket {
    /// `0100007F:0CBC`, as the kernel writes them.
    pub local: Vec<u8>,
    pub remote: Vec<u8>,
    pub listens: bool,
    pub inode: u64,
}

impl Socket {
    pub fn port(&self) -> Option<u16> {
        let (_, port) = split(&self.local)?;
        u16::from_str_radix(str::from_utf8(port).ok()?, 16).ok()
    }
}

fn split(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = address.iter().position(|&b| b == b':')?;
    Some((&address[..colon], &address[colon + 1..]))
}

/// The sockets of the network namespace that a process is in.
pub fn read(tree: &Tree, process: &str) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        let rows = tree.read_up_to(format!("proc/{process}/net/{table}"), TABLE_BYTES);
        sockets.extend(parse(&rows.unwrap_or_default()));
    }
    sockets
}

/// `0: 0100007F:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1234`
fn parse(table: &[u8]) -> Vec<Socket> {
    let row = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let local = words.nth(1)?.to_vec();
        let remote = words.next()?.to_vec();
        let listens = words.next()? == LISTEN;
        let inode = number(words.nth(5)?)?;
        split(&local)?;
        Some(Socket { local, remote, listens, inode })
    };
    table.split(|&b| b == b'\n').skip(1).filter_map(row).collect()
}

/// The inodes of the sockets at the other ends of these, which are in the node too.
pub fn peers(sockets: &[Socket], mine: &[u64]) -> Vec<u64> {
    let ours = sockets.iter().filter(|socket| mine.contains(&socket.inode) && !socket.listens);
    ours.filter_map(|our| {
        let is_peer = |other: &&Socket| other.local == our.remote && other.remote == our.local;
        sockets.iter().find(is_peer).map(|peer| peer.inode)
    })
    .collect()
}

/// Whether an address is this node's, by its `fib_trie`: a line of the address, then
/// `/32 host LOCAL`.
pub fn is_local(address: &str, fib_trie: &[u8]) -> bool {
    if address.starts_with("127.") || address == "::1" {
        return true;
    }
    let leaf = format!("|-- {address}");
    let mut lines = fib_trie.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        if line == leaf.as_bytes() {
            let mut below = lines.clone().take_while(|line| !line.starts_with(b"|--"));
            if below.any(|line| line == b"/32 host LOCAL") {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
        retrnsmt   uid  timeout inode\n\
        \x20  0: 00000000:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 100 1\n\
        \x20  1: 0100007F:2A2D 0100007F:C350 01 00000000:00000000 02:00000000 00000000 0 0 101 1\n\
        \x20  2: 0100007F:C350 0100007F:2A2D 01 00000000:00000000 02:00000000 00000000 0 0 102 1\n\
        nonsense\n";

    #[test]
    fn who_listens_and_who_is_at_the_other_end() {
        let sockets = parse(TABLE.as_bytes());
        assert_eq!(sockets.len(), 3);
        assert_eq!((sockets[0].port(), sockets[0].listens), (Some(3260), true));
        assert_eq!(peers(&sockets, &[102]), [101]);
        assert!(peers(&sockets, &[100]).is_empty());
    }

    #[test]
    fn an_address_of_this_node_has_a_local_leaf() {
        let trie =
            b"Main:\n  +-- 10.0.0.0/8 2 0 2\n     |-- 10.0.0.5\n        /32 host LOCAL\n     \
            |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert!(is_local("10.0.0.5", trie) && is_local("127.0.0.1", b""));
        assert!(!is_local("10.0.0.255", trie) && !is_local("10.0.0.6", trie));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>(), text in "[0-9A-F: \n]{0,80}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let sockets = parse(bytes);
                let ports = sockets.iter().filter_map(Socket::port).count();
                prop_assert!(ports <= sockets.len());
                peers(&sockets, &[1]);
                is_local("10.0.0.5", bytes);
            }
        }
    }
}
