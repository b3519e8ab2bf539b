use proptest::prelude::*;

use super::*;
use tracer_node::disks::Named;

fn key(name: &str) -> Key {
    let settings = [("scheduler", "none"), ("nr_requests", "1023"), ("rotational", "0")];
    Key {
        named: Named::Hardware(name.to_owned()),
        size_bytes: 1 << 40,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

fn level(op: u32, class: u16, usual_ns: u64) -> Kept {
    Kept { op: op as u16, class, level: Level { ns: usual_ns, batches: 77 } }
}

fn entries() -> Vec<Entry> {
    let boot = Named::Boot { boot: "5c3b".into(), number: 42, file: "/a \"file\"\u{1f600}".into() };
    let levels = vec![level(op::WRITE, 1, 90_000), level(op::FLUSH, 0, 700_000)];
    let rates = KeptRates { mix: 3, octave: 6, seconds: 60, rates: [400_000_000, 400, 1_638_400] };
    let pace = KeptPace { levels: vec![rates], written: Some((1_638_400, 77)) };
    vec![
        Entry { key: key("nvme.1b36-31"), at: 1_795_896_762, levels: levels.clone(), pace },
        Entry {
            key: Key { named: boot, ..key("") },
            at: 1_795_896_000,
            levels,
            pace: KeptPace::default(),
        },
    ]
}

fn sealed(body: &str) -> Vec<u8> {
    format!("{}{body}", head(VERSION, body.as_bytes())).into_bytes()
}

#[test]
fn what_is_written_is_read() {
    let (bytes, left_out) = encode(&entries());
    assert_eq!((decode(&bytes), left_out), (Ok(entries()), 0));
    assert_eq!(decode(&encode(&[]).0), Ok(Vec::new()));
}

#[test]
fn with_any_bit_changed_or_cut_anywhere_it_is_refused() {
    let (bytes, _) = encode(&entries());
    for at in 0..bytes.len() {
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            assert!(decode(&other).is_err(), "bit {bit} of byte {at}");
        }
    }
    let longer = [&bytes[..], b" "].concat();
    assert_eq!(decode(&longer), Err(Refusal::Damaged));
}

#[test]
fn reasons_of_refusal_are_distinguished() {
    assert_eq!(decode(b""), Err(Refusal::Foreign));
    assert_eq!(decode(b"{}\n"), Err(Refusal::Foreign));
    assert_eq!(decode(b"tracer-reference 3 0 00000000\n"), Err(Refusal::Version(3)));
    assert_eq!(decode(b"tracer-reference 0 0 00000000\n"), Err(Refusal::Version(0)));
    assert_eq!(decode(b"tracer-reference 2 0 00000001\n"), Err(Refusal::Damaged));
    assert_eq!(decode(&vec![b' '; MAX_BYTES + 1]), Err(Refusal::TooLong));
    let says = Refusal::Version(3).to_string();
    assert_eq!(says, "it is of version 3, and this tracer reads 2");
}

/// The pace was added in version 2.
#[test]
fn a_file_of_the_first_version_is_read_without_a_pace() {
    let disk = r#"{"named":{"hardware":"x1y2"},"size_bytes":1,"settings":{}}"#;
    let body = format!(r#"[{{"disk":{disk},"at":7,"levels":[[1,1,90000,77]]}}]"#);
    let old = format!("{}{body}", head(1, body.as_bytes()));
    let read = decode(old.as_bytes()).unwrap();
    assert_eq!((read[0].at, &read[0].levels[..]), (7, &[level(op::WRITE, 1, 90_000)][..]));
    assert_eq!(read[0].pace, KeptPace::default());
}

/// Whoever can write the file can make its checksum fit.
#[test]
fn sealed_nonsense_is_refused() {
    let disk = r#"{"named":{"hardware":"x1y2"},"size_bytes":1,"settings":{}}"#;
    let line = |disk: &str, at: &str, levels: &str| {
        sealed(&format!(r#"[{{"disk":{disk},"at":{at},"levels":{levels}}}]"#))
    };
    let one = "[[0,1,5,5]]";
    assert!(decode(&line(disk, "1", one)).is_ok());
    let long = format!(
        r#"{{"named":{{"hardware":"{}"}},"size_bytes":1,"settings":{{}}}}"#,
        "x".repeat(9999)
    );
    for bad in [
        line(disk, "1", "[]"),
        line(disk, "1", "[[0,1,0,5]]"),
        line(disk, "1", "[[0,1,18446744073709551615,5]]"),
        line(disk, "1", "[[0,1,18446744073709551616,5]]"),
        line(disk, "1", "[[0,1,-5,5]]"),
        line(disk, "1", "[[0,1,5,0]]"),
        line(disk, "1", "[[0,65535,5,5]]"),
        line(disk, "1", "[[99,1,5,5]]"),
        line(disk, "1", &format!("[{}]", ["[0,1,5,5]"; 100].join(","))),
        line(disk, "1", r#"[[0,1,5,5]],"pace":[[4,0,9,[1,1,1]]]"#),
        line(disk, "1", r#"[[0,1,5,5]],"pace":[[0,13,9,[1,1,1]]]"#),
        line(disk, "1", r#"[[0,1,5,5]],"pace":[[0,0,0,[1,1,1]]]"#),
        line(disk, "1", r#"[[0,1,5,5]],"pace":[[0,0,9,[1,1]]]"#),
        line(disk, "1", r#"[[0,1,5,5]],"pace":[[0,0,9,[1,1,18446744073709551615]]]"#),
        line(disk, "1", &format!(r#"{one},"pace":[{}]"#, ["[0,0,9,[1,1,1]]"; 53].join(","))),
        line(disk, "1", r#"[[0,1,5,5]],"written":[5,0]"#),
        line(disk, "1", r#"[[0,1,5,5]],"written":[18446744073709551615,5]"#),
        line(disk, "999999999999999", one),
        line(disk, "1e99", one),
        line(disk, "null", one),
        line(&long, "1", one),
        line("{}", "1", one),
        sealed(""),
        sealed("{}"),
        sealed("[1"),
        sealed(&"[".repeat(100_000)),
        sealed("\u{0}"),
    ] {
        let error = decode(&bad).unwrap_err();
        assert!(matches!(error, Refusal::Nonsense(_)), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn ten_thousand_disks_fit_into_half_a_mebibyte_and_the_latest_stay() {
    let many: Vec<_> = (0..10_000)
        .map(|number| Entry {
            key: key(&format!("disk {number}")),
            at: 1_000_000 + number,
            levels: (0..6).map(|class| level(op::WRITE, class, 1_234_567)).collect(),
            pace: KeptPace::default(),
        })
        .collect();
    let (bytes, left_out) = encode(&many);
    assert!(bytes.len() <= 512 << 10 && bytes.len() > 500 << 10, "{}", bytes.len());
    let read = decode(&bytes).unwrap();
    assert_eq!(read.len() + left_out, 10_000);
    assert!(read.len() > 1000, "{}", read.len());
    let mut latest = many[left_out..].to_vec();
    latest.reverse();
    assert_eq!(read, latest);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = decode(&sealed(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn whatever_is_taken_is_written_as_it_was(
        names in prop::collection::vec("\\PC{4,200}", 0..5),
        at in 0..=LAST_SECOND,
        levels in prop::collection::btree_map(
            (0..op::COUNT as u16, 0..size::COUNT as u16), (1..=MAX_NS, 1u64..), 1..20,
        ),
        paces in prop::collection::btree_map(
            (0..MIXES as u16, 0..OCTAVES as u16), (1u32.., prop::array::uniform3(0..=MAX_RATE)), 0..52,
        ),
        written in prop::option::of((0..=MAX_RATE, 1u32..)),
    ) {
        let levels: Vec<_> = levels.into_iter().map(|((op, class), (usual_ns, batches))| {
            Kept { op, class, level: Level { ns: usual_ns, batches } }
        }).collect();
        let paces: Vec<_> = paces.into_iter().map(|((mix, octave), (seconds, rates))| {
            KeptRates { mix, octave, seconds, rates }
        }).collect();
        let entries: Vec<_> = names.iter()
            .map(|name| Entry {
                key: key(name),
                at,
                levels: levels.clone(),
                pace: KeptPace { levels: paces.clone(), written },
            })
            .filter(|entry| entry.key.is_sound())
            .collect();
        let (bytes, left_out) = encode(&entries);
        prop_assert_eq!(decode(&bytes).unwrap(), entries);
        prop_assert_eq!(left_out, 0);
    }
}
