//! Chooses what of the node is shown: disks, namespaces, pods, victims, by pattern.
//!
//! A filter chooses those who wait. Whoever is blamed stays in the snapshot, in
//! the namespace next door or not, and the verdict is the one that it would be
//! without a filter: it is applied to what has been judged. What is left out is
//! counted and said ([`Filtered`]).

use std::{collections::BTreeSet, fmt, str::FromStr};

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracer_snapshot::{
    Actor, Disk, FileClass, Filtered, Frozen, Hanging, SlowSync, Snapshot, Victim,
};

use crate::output::{escape::bounded, names};

/// The longest pattern.
const LONGEST: usize = 253;

/// A pattern of whole names: `*` stands for any text, `?` for one character. It
/// matches in whatever case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob(Vec<char>);

impl Glob {
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<_> = name.chars().flat_map(char::to_lowercase).collect();
        let (mut at, mut taken) = (0, 0);
        // The last `*`, and how much of the name it takes so far.
        let mut star = None;
        while taken < name.len() {
            match self.0.get(at) {
                Some('*') => {
                    star = Some((at, taken));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == name[taken] => {
                    at += 1;
                    taken += 1;
                }
                _ => {
                    let Some((before, so_far)) = star else { return false };
                    at = before + 1;
                    taken = so_far + 1;
                    star = Some((before, taken));
                }
            }
        }
        self.0[at..].iter().all(|c| *c == '*')
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be empty: `*` stands for everything".into());
        }
        if text.len() > LONGEST {
            return Err(format!("must have {LONGEST} bytes at most"));
        }
        Ok(Self(text.chars().flat_map(char::to_lowercase).collect()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{c}"))
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A command shows those.
#[derive(Args, Clone, Debug, Default)]
pub struct Narrow {
    /// Show only victims that wait for a disk or filesystem of this name (`sdb`, `nvme*`).
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub disk: Vec<Glob>,

    /// Show only victims in Kubernetes namespaces of this name.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub namespace: Vec<Glob>,

    /// Show only victims in pods of this name, or of this `namespace/name`.
    ///
    /// Culprits are named wherever they run.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub pod: Vec<Glob>,
}

impl Narrow {
    pub fn is_empty(&self) -> bool {
        self.disk.is_empty() && self.namespace.is_empty() && self.pod.is_empty()
    }
}

/// The conditions that a victim must meet to be shown; an empty one is always met.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In lower case, somewhere in one of the names.
    text: Option<String>,
    narrow: Narrow,
    victims: Vec<Glob>,
}

/// A victim, as far as filters look at it.
#[derive(Clone, Copy)]
struct Waits<'a> {
    actor: &'a Actor,
    class: FileClass,
    path: &'a str,
    device: &'a str,
}

impl Filter {
    /// A command was asked for this.
    pub fn new(text: Option<&str>, narrow: &Narrow) -> Self {
        let text = text.map(str::to_lowercase);
        Self { text, narrow: narrow.clone(), victims: Vec::new() }
    }

    /// An agent is to show this.
    pub fn of_agent(disk: &[Glob], namespace: &[Glob], victim: &[Glob]) -> Self {
        let narrow = Narrow { disk: disk.to_vec(), namespace: namespace.to_vec(), pod: Vec::new() };
        Self { text: None, narrow, victims: victim.to_vec() }
    }

    /// Says in words what is shown; `None` where that is everything.
    pub fn only(&self) -> Option<String> {
        let Self { text, narrow: Narrow { disk, namespace, pod }, victims } = self;
        let lists = [("disk", disk), ("namespace", namespace), ("pod", pod), ("victim", victims)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(what, list)| {
            let list: Vec<_> = list.iter().map(ToString::to_string).collect();
            format!("{what} {}", list.join(" or "))
        });
        let text = text.iter().map(|text| format!("names with `{text}`"));
        let parts: Vec<_> = lists.chain(text).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Leaves out of a snapshot who is not asked for, and says so in it.
    pub fn narrow(&self, s: &mut Snapshot) {
        let Some(only) = self.only() else { return };
        let (victims, hanging, disks) = (s.victims.len(), s.hanging.len(), s.disks.len());
        let names: Vec<_> = s.disks.iter().map(names_of).collect();
        s.victims.retain(|victim| self.takes_victim(victim, &names));
        s.hanging.retain(|one| self.takes_hanging(one));
        s.frozen.retain(|one| self.takes_frozen(one));
        self.narrow_disks(s);
        s.filter = Some(Filtered {
            only,
            victims_left_out: victims - s.victims.len(),
            hanging_left_out: hanging - s.hanging.len(),
            disks_left_out: disks - s.disks.len(),
        });
    }

    /// Disks stay that are asked for, and those for which somebody who stays waits.
    fn narrow_disks(&self, s: &mut Snapshot) {
        let wanted = &self.narrow.disk;
        if wanted.is_empty() {
            return;
        }
        let waited: BTreeSet<_> = s.victims.iter().filter_map(|victim| victim.disk).collect();
        let below: BTreeSet<_> =
            s.victims.iter().flat_map(|victim| &victim.disks_below).cloned().collect();
        let mut places = Vec::new();
        let mut next = 0;
        let mut index = 0;
        s.disks.retain(|disk| {
            let stays = waited.contains(&index)
                || below.contains(&disk.name)
                || names_of(disk).iter().any(|name| is_among(wanted, name));
            places.push(stays.then_some(next));
            next += usize::from(stays);
            index += 1;
            stays
        });
        for victim in &mut s.victims {
            victim.disk = victim.disk.and_then(|disk| places.get(disk).copied().flatten());
        }
    }

    fn takes_victim(&self, victim: &Victim, disks: &[Vec<String>]) -> bool {
        let Victim { actor, class, path, device, disk, disks_below, .. } = victim;
        let disk = disk.and_then(|disk| disks.get(disk));
        let waits = Waits { actor, class: *class, path, device };
        self.takes(waits, disk.into_iter().flatten().chain(disks_below).map(String::as_str))
    }

    pub fn takes_hanging(&self, one: &Hanging) -> bool {
        let Hanging { actor, class, path, device, disk, .. } = one;
        let waits = Waits { actor, class: *class, path, device };
        self.takes(waits, disk.iter().map(|disk| disk.name.as_str()))
    }

    pub fn takes_frozen(&self, one: &Frozen) -> bool {
        let Frozen { actor, class, path, device, .. } = one;
        self.takes(Waits { actor, class: *class, path, device }, std::iter::empty())
    }

    /// One sync knows its filesystem's device and no disks below it.
    pub fn takes_sync(&self, sync: &SlowSync) -> bool {
        let SlowSync { actor, class, path, device, .. } = sync;
        self.takes(Waits { actor, class: *class, path, device }, std::iter::empty())
    }

    fn takes<'a>(&self, waits: Waits<'a>, mut disks: impl Iterator<Item = &'a str>) -> bool {
        let Waits { actor, class, path, device } = waits;
        let Narrow { disk, namespace, pod } = &self.narrow;
        let workload = actor.workload.as_ref();
        let part = |part: Option<&'a Option<String>>| part?.as_deref();
        let in_namespace = part(workload.map(|w| &w.namespace));
        let in_pod = part(workload.map(|w| &w.pod));
        let mut is_disk = || {
            is_among(disk, device)
                || is_among(disk, whole(device))
                || disks.any(|name| is_among(disk, name))
        };
        let is_namespace = || in_namespace.is_some_and(|name| is_among(namespace, name));
        let is_pod = || {
            let full = format!("{}/{}", in_namespace.unwrap_or_default(), in_pod?);
            Some(is_among(pod, in_pod?) || is_among(pod, &full))
        };
        let is_victim = || {
            let unit = actor.unit.as_deref().unwrap_or_default();
            let name = workload.map_or("", |workload| workload.name.as_str());
            let label = names::actor(actor);
            [actor.comm.as_str(), unit, name, &label].iter().any(|n| is_among(&self.victims, n))
        };
        let has_text = |text: &String| names::matches(text, actor, class, path, device);
        (disk.is_empty() || is_disk())
            && (namespace.is_empty() || is_namespace())
            && (pod.is_empty() || is_pod() == Some(true))
            && (self.victims.is_empty() || is_victim())
            && self.text.as_ref().is_none_or(has_text)
    }
}

/// The kernel's name of a disk, and the one that people know it by.
fn names_of(disk: &Disk) -> Vec<String> {
    [Some(&disk.name), disk.known_as.as_ref()].into_iter().flatten().cloned().collect()
}

/// Whether one of the patterns matches.
pub fn is_among(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

/// The line that says what a snapshot leaves out.
pub fn line(s: &Snapshot) -> Option<String> {
    let Filtered { only, victims_left_out, hanging_left_out, disks_left_out } =
        s.filter.as_ref()?;
    let parts = [
        (*victims_left_out, "victims"),
        (*hanging_left_out, "syncs that hang"),
        (*disks_left_out, "disks"),
    ];
    let left_out: Vec<_> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let left_out = if left_out.is_empty() { "nothing".into() } else { left_out.join(", ") };
    Some(format!("left out {left_out}: only {}", bounded(only, 80)))
}

/// The disk that a partition's name is made of: `sda` of `sda1`, `nvme0n1` of
/// `nvme0n1p3`. Any other name is its own.
fn whole(device: &str) -> &str {
    let disk = device.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_partition = disk.len() < device.len();
    let last = |text: &str| text.chars().next_back();
    match disk.strip_suffix('p') {
        Some(disk) if is_partition && last(disk).is_some_and(|c| c.is_ascii_digit()) => disk,
        _ if is_partition
            && ["sd", "vd", "hd", "xvd"].iter().any(|begin| disk.starts_with(begin))
            && last(disk).is_some_and(|c| c.is_ascii_lowercase()) =>
        {
            disk
        }
        _ => device,
    }
}

#[cfg(test)]
mod tests;
