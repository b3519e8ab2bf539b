//! Classifies a file by its path: the layouts of etcd and other databases.
//!
//! A path goes in, out comes its class and its group: all segments of one
//! write-ahead log are one thing to wait for, so they share the path of their
//! directory. Pure; paths are untrusted, and anything unknown is `Other`.

use tracer_snapshot::{
    FileClass::{self, Db, Other, Snap, Wal},
    labels::FileLabel,
};

use Component::{Digits, Ends, Is, Like, Starts};
use Group::{Dir, File, Parent};

/// The class, group and layout that a path has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Classified<'a> {
    pub class: FileClass,
    /// The file itself, or the directory of a class of files.
    pub group: &'a str,
    /// The name of the layout.
    pub pattern: &'static str,
}

impl Classified<'_> {
    /// Its label on a filesystem's device.
    pub fn label(self, device: u32) -> FileLabel {
        let Self { class, group, pattern } = self;
        FileLabel { class, path: group.to_owned(), pattern, device }
    }
}

/// One layout: what the last components of a path look like.
struct Row {
    pattern: &'static str,
    class: FileClass,
    tail: &'static [Component],
    group: Group,
}

/// One component of a path.
enum Component {
    Is(&'static str),
    Starts(&'static str),
    Ends(&'static str),
    /// This number of digits between the two texts.
    Digits(&'static str, std::ops::RangeInclusive<usize>, &'static str),
    Like(fn(&str) -> bool),
}

/// The part of the path that names a group.
enum Group {
    File,
    /// Its directory.
    Dir,
    /// The directory above its directory.
    Parent,
}

const fn row(
    pattern: &'static str,
    class: FileClass,
    tail: &'static [Component],
    group: Group,
) -> Row {
    Row { pattern, class, tail, group }
}

/// The first row that matches is taken.
static ROWS: &[Row] = &[
    // etcd writes the head of a new segment, and syncs it, before it renames
    // `1.tmp` to its name; both count in its wal_fsync_duration_seconds. The
    // very first segment is written in `wal.tmp`.
    row("etcd wal", Wal, &[Is("member"), Is("wal"), Ends(".wal")], Dir),
    row("etcd wal", Wal, &[Is("member"), Is("wal"), Digits("", 1..=20, ".tmp")], Dir),
    row("etcd wal", Wal, &[Is("member"), Is("wal.tmp"), Ends(".wal")], Dir),
    // With --wal-dir it is anywhere.
    row("etcd wal", Wal, &[Like(is_etcd_segment)], Dir),
    row("etcd db", Db, &[Is("member"), Is("snap"), Is("db")], File),
    row("etcd snapshot", Snap, &[Is("member"), Is("snap"), Starts("")], Dir),
    // Snapshots of k3s and RKE2, whose names the user chooses (k3s
    // `pkg/etcd/snapshot.go`, v1.31), and of etcdctl and etcdutl while they write
    // (etcd `client/v3/snapshot/v3_snapshot.go`, v3.5).
    row("etcd snapshot", Snap, &[Is("server"), Is("db"), Is("snapshots"), Starts("")], Dir),
    row("etcd snapshot", Snap, &[Ends(".db.part")], Dir),
    // k3s without etcd (kine `pkg/drivers/sqlite/sqlite.go`, v0.13).
    row("kine wal", Wal, &[Is("state.db-wal")], File),
    row("kine wal", Wal, &[Is("state.db-journal")], File),
    row("kine db", Db, &[Is("state.db")], File),
    // dqlite, of MicroK8s and LXD: segments of a Raft log.
    row("dqlite wal", Wal, &[Like(is_dqlite_segment)], Dir),
    // Consul, Nomad, Vault.
    row("raft log", Wal, &[Is("raft"), Is("raft.db")], File),
    row("postgresql wal", Wal, &[Is("pg_wal"), Starts("")], Dir),
    row("postgresql wal", Wal, &[Is("pg_xlog"), Starts("")], Dir),
    row("postgresql db", Db, &[Is("base"), Digits("", 1..=10, ""), Like(is_relation)], Parent),
    row("postgresql db", Db, &[Is("global"), Like(is_relation)], Dir),
    row("postgresql db", Db, &[Is("global"), Is("pg_control")], Dir),
    row("postgresql db", Db, &[Is("pg_xact"), Starts("")], Dir),
    row("innodb log", Wal, &[Starts("ib_logfile")], Dir),
    row("innodb log", Wal, &[Starts("#ib_redo")], Dir),
    row("mysql binlog", Wal, &[Digits("binlog.", 6..=10, "")], Dir),
    row("mysql binlog", Wal, &[Digits("mysql-bin.", 6..=10, "")], Dir),
    row("mysql binlog", Wal, &[Digits("mariadb-bin.", 6..=10, "")], Dir),
    row("innodb db", Db, &[Ends(".ibd")], Dir),
    row("innodb db", Db, &[Starts("ibdata")], Dir),
    row("innodb db", Db, &[Ends(".dblwr")], Dir),
    row("innodb db", Db, &[Digits("undo_", 3..=3, "")], Dir),
    row("innodb db", Db, &[Digits("undo", 3..=3, "")], Dir),
    row("wiredtiger log", Wal, &[Starts("WiredTigerLog.")], Dir),
    row("wiredtiger db", Db, &[Ends(".wt")], Dir),
    // Twenty digits of an offset; ahead of the shorter ones.
    row("kafka log", Db, &[Digits("", 20..=20, ".log")], Parent),
    // CockroachDB, TiKV, Ceph. Dates have eight digits.
    row("lsm wal", Wal, &[Digits("", 6..=7, ".log")], Dir),
    row("lsm db", Db, &[Digits("", 6..=7, ".sst")], Dir),
    row("lsm db", Db, &[Digits("", 6..=7, ".ldb")], Dir),
    row("lsm db", Db, &[Digits("MANIFEST-", 6..=7, "")], Dir),
    row("prometheus wal", Wal, &[Is("wal"), Digits("", 8..=8, "")], Dir),
    row("prometheus db", Db, &[Is("chunks_head"), Digits("", 6..=6, "")], Dir),
    row("zookeeper log", Wal, &[Is("version-2"), Starts("log.")], Dir),
    row("zookeeper snapshot", Snap, &[Is("version-2"), Starts("snapshot.")], Dir),
    row("redis log", Wal, &[Is("appendonlydir"), Starts("")], Dir),
    row("redis log", Wal, &[Ends(".aof")], File),
    row("redis snapshot", Snap, &[Ends(".rdb")], Dir),
    // SQLite puts them beside the database, whatever that is called
    // (<https://www.sqlite.org/tempfiles.html>).
    row("sqlite wal", Wal, &[Ends("-wal")], File),
    row("sqlite journal", Wal, &[Ends("-journal")], File),
    row("db", Db, &[Ends(".db")], File),
    row("db", Db, &[Ends(".db3")], File),
    row("db", Db, &[Ends(".sqlite")], File),
    row("db", Db, &[Ends(".sqlite3")], File),
    row("wal", Wal, &[Ends(".wal")], Dir),
];

/// Classifies a file by its path.
pub fn classify(path: &str) -> Classified<'_> {
    match ROWS.iter().find(|row| row.matches(path)) {
        Some(row) => Classified {
            class: row.class,
            group: match row.group {
                File => path,
                Dir => parent(path),
                Parent => parent(parent(path)),
            },
            pattern: row.pattern,
        },
        None => Classified { class: Other, group: path, pattern: "file" },
    }
}

impl Row {
    fn matches(&self, path: &str) -> bool {
        let mut components = path.rsplit('/');
        self.tail.iter().rev().all(|part| {
            components.next().is_some_and(|name| !name.is_empty() && part.matches(name))
        })
    }
}

impl Component {
    fn matches(&self, name: &str) -> bool {
        match self {
            Is(all) => name == *all,
            Starts(prefix) => name.starts_with(prefix),
            Ends(suffix) => name.ends_with(suffix),
            Digits(prefix, count, suffix) => name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|digits| count.contains(&digits.len()) && is_all_digits(digits)),
            Like(is_like) => is_like(name),
        }
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None => path,
    }
}

fn is_all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `0000000000000001-00000000000003e8.wal`: sequence and index, in hex.
fn is_etcd_segment(name: &str) -> bool {
    let is_hex = |half: &str| half.len() == 16 && half.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_suffix(".wal")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(sequence, index)| is_hex(sequence) && is_hex(index))
}

/// `open-3`, or `0000000000000001-0000000000000417` once it is closed.
fn is_dqlite_segment(name: &str) -> bool {
    let is_index = |half: &str| half.len() == 16 && is_all_digits(half);
    match name.split_once('-') {
        Some(("open", count)) => is_all_digits(count),
        Some((first, last)) => is_index(first) && is_index(last),
        None => false,
    }
}

/// A table's or index's file: `16384`, `16384.1`, `16384_fsm`.
fn is_relation(name: &str) -> bool {
    let end = name.find(['.', '_']).unwrap_or(name.len());
    is_all_digits(&name[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, class: FileClass, group: &str, pattern: &str) {
        let Classified { class: c, group: g, pattern: p } = classify(path);
        assert_eq!((c, g, p), (class, group, pattern), "{path}");
    }

    #[test]
    fn etcd() {
        let segment = "0000000000000001-00000000000003e8.wal";
        for data in ["/var/lib/etcd", "/var/lib/rancher/k3s/server/db/etcd", ""] {
            let wal = &format!("{data}/member/wal");
            let snap = &format!("{data}/member/snap");
            check(&format!("{wal}/{segment}"), Wal, wal, "etcd wal");
            check(&format!("{wal}/0.tmp"), Wal, wal, "etcd wal");
            check(wal, Other, wal, "file");
            check(&format!("{snap}/db"), Db, &format!("{snap}/db"), "etcd db");
            for name in
                ["db.tmp123", "tmp42", "0000000000000002-00000000000186a1.snap", "9.snap.db"]
            {
                check(&format!("{snap}/{name}"), Snap, snap, "etcd snapshot");
            }
        }
        check(&format!("/d/member/wal.tmp/{segment}"), Wal, "/d/member/wal.tmp", "etcd wal");
        check(&format!("/ssd/{segment}"), Wal, "/ssd", "etcd wal");
        check("/ssd/0.tmp", Other, "/ssd/0.tmp", "file");
    }

    #[test]
    fn sqlite_and_kine() {
        let db = "/var/lib/rancher/k3s/server/db/state.db";
        check(db, Db, db, "kine db");
        check(&format!("{db}-wal"), Wal, &format!("{db}-wal"), "kine wal");
        check(&format!("{db}-journal"), Wal, &format!("{db}-journal"), "kine wal");
        check("/a/grafana-wal", Wal, "/a/grafana-wal", "sqlite wal");
        check("/a/x.db3", Db, "/a/x.db3", "db");
        check("/a/x.db-wal", Wal, "/a/x.db-wal", "sqlite wal");
        check("/a/x.sqlite-journal", Wal, "/a/x.sqlite-journal", "sqlite journal");
        check("/a/meta.db", Db, "/a/meta.db", "db");
    }

    #[test]
    fn other_databases() {
        let pg = "/var/lib/postgresql/15/main";
        check(
            &format!("{pg}/pg_wal/000000010000000000000001"),
            Wal,
            &format!("{pg}/pg_wal"),
            "postgresql wal",
        );
        check(&format!("{pg}/base/5/16384_fsm"), Db, &format!("{pg}/base"), "postgresql db");
        check(&format!("{pg}/global/1262"), Db, &format!("{pg}/global"), "postgresql db");
        check("/home/base/5/notes.txt", Other, "/home/base/5/notes.txt", "file");
        check("/m/#innodb_redo/#ib_redo12_tmp", Wal, "/m/#innodb_redo", "innodb log");
        check("/m/ib_logfile0", Wal, "/m", "innodb log");
        check("/m/binlog.000012", Wal, "/m", "mysql binlog");
        check("/m/shop/orders.ibd", Db, "/m/shop", "innodb db");
        check("/m/undo_001", Db, "/m", "innodb db");
        check("/c/000123.log", Wal, "/c", "lsm wal");
        check("/c/000124.sst", Db, "/c", "lsm db");
        check("/logs/20240131.log", Other, "/logs/20240131.log", "file");
        check("/p/wal/00000042", Wal, "/p/wal", "prometheus wal");
        check("/z/version-2/log.100000001", Wal, "/z/version-2", "zookeeper log");
        check("/z/version-2/snapshot.0", Snap, "/z/version-2", "zookeeper snapshot");
        check("/k/topic-0/00000000000000000000.log", Db, "/k", "kafka log");
        check("/b/open-3", Wal, "/b", "dqlite wal");
        check("/b/0000000000000001-0000000000000417", Wal, "/b", "dqlite wal");
    }

    #[test]
    fn hostile_paths_are_other() {
        for path in ["", "/", "//", "member/wal/", "/member//wal/", "\u{fffd}\n", "pg_wal/", ".wa"]
        {
            check(path, Other, path, "file");
        }
        check("/x.wal", Wal, "/", "wal");
        check("x.wal", Wal, "x.wal", "wal");
        check("/1-/00000000000000000000.log", Db, "/", "kafka log");
    }

    proptest! {
        #[test]
        fn the_group_is_the_path_or_above_it(
            path in "(/?(member|wal|snap|base|[0-9]{1,20}|[-._a-zA-Zß#]{0,9}))*",
            any in any::<String>(),
        ) {
            for path in [path, any] {
                let group = classify(&path).group;
                prop_assert!(path.starts_with(group));
            }
        }
    }
}
