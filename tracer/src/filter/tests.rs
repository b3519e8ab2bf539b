use proptest::prelude::*;
use tracer_snapshot::{Workload, WorkloadKind};

use super::*;
use crate::output::fixture;

fn glob(text: &str) -> Glob {
    text.parse().unwrap()
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| glob(text)).collect()
}

#[test]
fn a_pattern_is_of_whole_names() {
    for (pattern, name, matches) in [
        ("sdb", "sdb", true),
        ("sdb", "sdb1", false),
        ("sd?", "sdb", true),
        ("sd?", "sd", false),
        ("*", "", true),
        ("nvme*", "nvme0n1", true),
        ("*-0", "etcd-0", true),
        ("*-0", "etcd-01", false),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbYc1", false),
        ("Shop", "shop", true),
        ("shop/*", "shop/web-0", true),
        ("tracer_*_total", "tracer_blame_seconds_total", true),
        ("[a]", "a", false),
    ] {
        assert_eq!(glob(pattern).matches(name), matches, "{pattern} {name}");
    }
    assert!("".parse::<Glob>().is_err() && "a".repeat(300).parse::<Glob>().is_err());
}

proptest! {
    /// No name makes it slow or panic, and a name matches itself.
    #[test]
    fn any_name_is_matched_or_not(name: String) {
        prop_assert!(glob("*").matches(&name));
        let nasty = glob("*a*a*a*a*a*a*a*a*a*b");
        prop_assert_eq!(nasty.matches(&format!("{}c", "a".repeat(2000))), false);
        if let Ok(own) = name.replace(['*', '?'], "x").parse::<Glob>() {
            prop_assert!(own.matches(name.replace(['*', '?'], "x").trim()));
        }
    }
}

#[test]
fn a_partition_is_of_its_disk() {
    for (device, disk) in [
        ("sda1", "sda"),
        ("sdab12", "sdab"),
        ("vda15", "vda"),
        ("xvda1", "xvda"),
        ("nvme0n1p3", "nvme0n1"),
        ("nvme0n1", "nvme0n1"),
        ("mmcblk0p1", "mmcblk0"),
        ("loop0p1", "loop0"),
        ("loop0", "loop0"),
        ("md127", "md127"),
        ("dm-0", "dm-0"),
        ("sda", "sda"),
        ("p1", "p1"),
        ("", ""),
        ("7", "7"),
    ] {
        assert_eq!(whole(device), disk, "{device}");
    }
}

fn pod(namespace: &str, pod: &str) -> Workload {
    Workload {
        kind: WorkloadKind::Pod,
        name: format!("{namespace}/{pod}"),
        namespace: Some(namespace.into()),
        pod: Some(pod.into()),
        ..Workload::default()
    }
}

/// An etcd in a pod, made slow by the fstrim of another namespace.
fn node() -> Snapshot {
    let mut s = fixture::trimmed();
    for victim in &mut s.victims {
        victim.actor.workload = Some(match victim.id {
            7 | 8 => pod("kube-system", "etcd-node1"),
            _ => pod("shop", "web-0"),
        });
        for culprit in &mut victim.verdict.culprits {
            culprit.actor.workload = Some(pod("backup", "trimmer"));
        }
    }
    s
}

fn ids(s: &Snapshot) -> Vec<u32> {
    s.victims.iter().map(|victim| victim.id).collect()
}

#[test]
fn a_culprit_outside_of_the_filter_is_named() {
    let whole = node();
    let mut s = whole.clone();
    let narrow = Narrow { namespace: globs(&["kube-*"]), ..Narrow::default() };
    Filter::new(None, &narrow).narrow(&mut s);
    assert_eq!(ids(&s), [7, 8]);
    let culprit = |s: &Snapshot| {
        let victim = s.victims.iter().find(|victim| victim.id == 7).unwrap();
        format!("{:?}", victim.verdict)
    };
    assert!(culprit(&s).contains("backup/trimmer"));
    assert_eq!(culprit(&s), culprit(&whole), "a verdict does not depend on who looks");
    // The owners of the disks are blame, too.
    let owners = |s: &Snapshot| s.disks.iter().map(|disk| disk.owners.len()).sum::<usize>();
    assert_eq!(owners(&s), owners(&whole));
    let filter = s.filter.clone().unwrap();
    assert_eq!((filter.only.as_str(), filter.victims_left_out), ("namespace kube-*", 1));
    assert_eq!(line(&s).unwrap(), "left out 1 victims: only namespace kube-*");
}

#[test]
fn pods_are_meant_by_their_name_or_by_both() {
    for (pattern, expected) in [
        ("etcd-node1", &[7, 8][..]),
        ("kube-system/*", &[7, 8]),
        ("web-?", &[9]),
        ("shop/web-0", &[9]),
        ("shop/etcd-node1", &[]),
        ("shop", &[]),
    ] {
        let mut s = node();
        let narrow = Narrow { pod: globs(&[pattern]), ..Narrow::default() };
        Filter::new(None, &narrow).narrow(&mut s);
        assert_eq!(ids(&s), expected, "{pattern}");
        assert_eq!(s.filter.unwrap().victims_left_out, 3 - expected.len());
    }
}

#[test]
fn who_waits_for_a_disk_is_meant_by_it_and_its_index_stays_right() {
    let mut s = node();
    // A disk before all others, which is left out.
    let other = Disk { name: "sdz".into(), ..s.disks[0].clone() };
    s.disks.insert(0, other);
    for victim in &mut s.victims {
        victim.disk = victim.disk.map(|disk| disk + 1);
    }
    let named = |s: &Snapshot| {
        let disk = |victim: &Victim| Some(s.disks[victim.disk?].name.clone());
        s.victims.iter().map(disk).collect::<Vec<_>>()
    };
    let disk = named(&s)[0].clone().unwrap();
    let before = named(&s);
    let narrow = Narrow { disk: globs(&[&disk]), ..Narrow::default() };
    Filter::new(None, &narrow).narrow(&mut s);
    let kept: Vec<_> = before.into_iter().filter(|name| name.as_ref() == Some(&disk)).collect();
    assert!(!kept.is_empty());
    assert_eq!(named(&s), kept);
    assert!(s.disks.iter().all(|disk| disk.name != "sdz"));
    assert!(s.filter.unwrap().disks_left_out >= 1);
}

#[test]
fn a_victim_on_a_stack_waits_for_the_disks_below_it() {
    let mut s = node();
    s.victims[0].device = "dm-0".into();
    s.victims[0].disks_below = vec!["sdq".into()];
    let id = s.victims[0].id;
    let narrow = Narrow { disk: globs(&["sdq"]), ..Narrow::default() };
    Filter::new(None, &narrow).narrow(&mut s);
    assert_eq!(ids(&s), [id]);
    assert!(s.victims[0].disk.is_some(), "its own disk stays beside it");
    // People know it by another name.
    let mut s = node();
    let disk = s.victims[0].disk.unwrap();
    s.disks[disk].known_as = Some("vg0/data".into());
    let waiting = s.victims.iter().filter(|victim| victim.disk == Some(disk)).count();
    let narrow = Narrow { disk: globs(&["vg0/*"]), ..Narrow::default() };
    Filter::new(None, &narrow).narrow(&mut s);
    assert_eq!(s.victims.len(), waiting);
}

#[test]
fn without_a_filter_a_picture_is_whole() {
    let mut s = node();
    Filter::default().narrow(&mut s);
    assert!(s.filter.is_none() && line(&s).is_none());
    assert_eq!(ids(&s), ids(&node()));
}

#[test]
fn all_that_is_asked_for_must_hold_and_is_said() {
    let narrow = Narrow {
        disk: globs(&["sd*", "vda"]),
        namespace: globs(&["shop"]),
        pod: globs(&["web-*"]),
    };
    let filter = Filter::new(Some("ETCD"), &narrow);
    let only = "disk sd* or vda, namespace shop, pod web-*, names with `etcd`";
    assert_eq!(filter.only().as_deref(), Some(only));
    let mut s = node();
    filter.narrow(&mut s);
    assert!(s.victims.is_empty(), "no pod of the shop is an etcd");
    let agent = Filter::of_agent(&[], &[], &globs(&["etcd*"]));
    let mut s = node();
    agent.narrow(&mut s);
    assert_eq!(ids(&s), [7, 8]);
}
