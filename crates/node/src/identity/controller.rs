//! Finds what made a pod, if the pod's name shows it.
//!
//! Kubernetes' controllers name pods by rules that can be read backwards. A name is no
//! proof: somebody may give a pod that he makes by hand the name of a Deployment's.
//!
//! Sources (Kubernetes v1.31): `staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go`
//! (the letters of random names and hashes: no vowels, no 0, 1 and 3),
//! `pkg/controller/deployment/util/deployment_util.go` (`<deployment>-<hash>`),
//! `staging/src/k8s.io/apiserver/pkg/storage/names/generate.go` (`-` and five letters),
//! `pkg/controller/statefulset/stateful_set_utils.go` (`<set>-<ordinal>`),
//! `pkg/controller/cronjob/utils.go` (`<cronjob>-<minutes since 1970>`).

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const RANDOM: usize = 5;
/// A hash is a number of 32 bits in decimal digits, each replaced by a letter.
const HASH: std::ops::RangeInclusive<usize> = 6..=10;
const MINUTES: usize = 8;
const ORDINAL: usize = 5;

/// `deployment/web` of `web-7d4b9c6f5-x2x9k`, as kubectl takes it. Pods of DaemonSets and Jobs
/// are named alike: `daemonset,job/agent`. `None` where the name does not show it, and for
/// static pods, whose names end with their node's.
pub fn controller(pod: &str, uid: &str) -> Option<String> {
    // The uid of a static pod is a hash, not a UUID.
    if !uid.contains('-') && !uid.contains('_') {
        return None;
    }
    let (rest, last) = cut(pod)?;
    if is_number(last) && last.len() <= ORDINAL {
        return Some(format!("statefulset/{rest}"));
    }
    if last.len() != RANDOM || !is_random(last) {
        return None;
    }
    match cut(rest) {
        Some((name, minutes)) if is_number(minutes) && minutes.len() == MINUTES => {
            Some(format!("cronjob/{name}"))
        }
        Some((name, hash)) if HASH.contains(&hash.len()) && is_random(hash) => {
            Some(format!("deployment/{name}"))
        }
        _ => Some(format!("daemonset,job/{rest}")),
    }
}

/// The last part of a name, and what is before it.
fn cut(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('-').filter(|(rest, _)| !rest.is_empty())
}

fn is_random(part: &str) -> bool {
    part.bytes().all(|letter| LETTERS.contains(&letter))
}

/// Without zeros before it, as Kubernetes writes numbers.
fn is_number(part: &str) -> bool {
    let is_plain = part == "0" || !part.starts_with('0');
    !part.is_empty() && is_plain && part.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "3f6b1c2d-0a4c-4a2b-9d3f-0123456789ab";

    /// Names of pods as clusters gave them.
    #[test]
    fn a_pod_s_name_shows_what_made_it() {
        for (pod, expected) in [
            ("coredns-787d4945fb-8zvxs", Some("deployment/coredns")),
            (
                "kube-prometheus-stack-operator-6d9bbf6c5-wzxxq",
                Some("deployment/kube-prometheus-stack-operator"),
            ),
            (
                "prometheus-kube-prometheus-stack-prometheus-0",
                Some("statefulset/prometheus-kube-prometheus-stack-prometheus"),
            ),
            ("postgres-12", Some("statefulset/postgres")),
            ("kube-proxy-7xk2t", Some("daemonset,job/kube-proxy")),
            ("cilium-9vrxc", Some("daemonset,job/cilium")),
            ("backup-28912345-q7f9x", Some("cronjob/backup")),
            ("debug", None),
            ("web-01", None),
            ("my-shell", None),
            ("-0", None),
            ("", None),
            ("web-787d4945fb-", None),
            ("web-é", None),
        ] {
            assert_eq!(controller(pod, UID).as_deref(), expected, "{pod}");
        }
    }

    #[test]
    fn a_static_pod_s_name_ends_with_its_node_s() {
        let hash = "9c8e3b1f00c94cb5a3ff5a3f6f2f5b6e";
        assert_eq!(controller("etcd-ip-10-0-0-1", hash), None);
        assert_eq!(controller("etcd-worker-0", hash), None);
    }
}
