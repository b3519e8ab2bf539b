//! The hierarchy of cgroups by which processes go that are in the root of version 2.

use std::collections::BTreeMap;

use tracer_ebpf::config::{ABSENT, Config};

use crate::types::KernelTypes;

const POINTER_BYTES: u32 = 8;

/// Controllers whose hierarchies of version 1 would do, and what the kernel calls each
/// in its list of them.
const CONTROLLERS: [(&str, &str); 3] =
    [("memory", "memory_cgrp_id"), ("pids", "pids_cgrp_id"), ("cpu", "cpu_cgrp_id")];

/// Finds where a task's set of cgroups names that of each controller; empty where this
/// kernel does not let programs follow it.
pub fn find_states(
    types: &KernelTypes<'_>,
    task: u32,
    config: &mut Config,
) -> BTreeMap<&'static str, u32> {
    states(types, task, config).unwrap_or_default()
}

fn states(
    types: &KernelTypes<'_>,
    task: u32,
    config: &mut Config,
) -> Option<BTreeMap<&'static str, u32>> {
    let set = types.pointee(types.field(task, "cgroups")?.type_id)?;
    let list = types.field(set, "subsys")?;
    let (element, count) = types.array(list.type_id)?;
    let own = types.field(types.pointee(element)?, "cgroup")?;
    let cgroup = types.pointee(own.type_id)?;
    let level = types.field(cgroup, "level")?.offset_bytes;
    if config.node_id == ABSENT {
        return None;
    }
    (config.css_cgroup, config.cgroup_level) = (own.offset_bytes, level);
    let states = CONTROLLERS.iter().filter_map(|(controller, name)| {
        let at = types.enumerator(name).filter(|at| *at < count)?;
        Some((*controller, list.offset_bytes.checked_add(at.checked_mul(POINTER_BYTES)?)?))
    });
    Some(states.collect())
}

/// Has processes go by a controller's hierarchy of version 1. Returns whether the
/// programs can.
pub fn go_by(controller: &str, states: &BTreeMap<&'static str, u32>, config: &mut Config) -> bool {
    let at = states.get(controller);
    config.css_set_v1 = at.copied().unwrap_or(ABSENT);
    at.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::draft::{Draft, ENUM, POINTER, STRUCT};

    /// A task with a set of cgroups that has `count` controllers.
    fn kernel(count: u32) -> (Vec<u8>, u32) {
        let mut draft = Draft::base();
        let [cgroup, level, subsys, cgroups] =
            ["cgroup", "level", "subsys", "cgroups"].map(|name| draft.string(name));
        draft.add(STRUCT, "cgroup", 64, &[&[level, 8, 320]]); // 1
        draft.add(POINTER, "", 1, &[]); // 2
        draft.add(STRUCT, "cgroup_subsys_state", 64, &[&[cgroup, 2, 128]]); // 3
        draft.add(POINTER, "", 3, &[]); // 4
        draft.add_array(4, count); // 5
        draft.add(STRUCT, "css_set", 256, &[&[subsys, 5, 0]]); // 6
        draft.add(POINTER, "", 6, &[]); // 7
        let [cpu, memory] = ["cpu_cgrp_id", "memory_cgrp_id"].map(|name| draft.string(name));
        draft.add(ENUM, "cgroup_subsys_id", 4, &[&[cpu, 1], &[memory, 4]]); // 8
        draft.add(STRUCT, "task_struct", 4096, &[&[cgroups, 7, 800]]); // 9
        (draft.bytes(), 9)
    }

    #[test]
    fn each_controller_has_its_place_in_a_tasks_set() {
        let check = |count, node_id, expected: &[(&'static str, u32)]| {
            let (bytes, task) = kernel(count);
            let types = KernelTypes::parse(&bytes).expect("is BTF");
            let mut config = Config { node_id, ..Config::ABSENT };
            let found = find_states(&types, task, &mut config);
            assert_eq!(found, expected.iter().copied().collect(), "{count}");
            let is_set = config.css_cgroup == 16 && config.cgroup_level == 40;
            assert_eq!(is_set, node_id != ABSENT);
        };
        check(14, 96, &[("cpu", 8), ("memory", 32)]);
        check(4, 96, &[("cpu", 8)]);
        check(14, ABSENT, &[]);
    }

    #[test]
    fn a_controller_that_the_kernel_lacks_sets_nothing() {
        let states = BTreeMap::from([("memory", 32)]);
        let mut config = Config::ABSENT;
        assert!(!go_by("pids", &states, &mut config));
        assert_eq!(config.css_set_v1, ABSENT);
        assert!(go_by("memory", &states, &mut config));
        assert_eq!(config.css_set_v1, 32);
    }
}
