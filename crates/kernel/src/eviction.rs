//! How large the tables are from which the kernel evicts entries by itself.
//!
//! Such a table (`BPF_MAP_TYPE_LRU_HASH`) is full long before it looks so. Each CPU
//! that adds to it takes 128 free entries for its own use, and where none are left
//! up to 128 that nobody used lately are evicted at once:
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/bpf_lru_list.c>. A table
//! of 256 entries therefore evicts from its third CPU on, while it is nearly empty.
//! So there are twice as many entries as all CPUs can hold, and at least as many as
//! the programs ask for.

/// Entries for each CPU that the machine may have.
const FOR_EACH_CPU: u32 = 256;

/// No table grows beyond this much memory, which is enough for some 128 CPUs.
const MAX_BYTES: u32 = 4 << 20;

/// The kernel's own part of an entry, and its share of the table of hashes.
const OVERHEAD_BYTES: u32 = 96;

/// Tables that grow with the CPUs, and the bytes that a key and its value have at
/// most in them.
const TABLES: u64 = 9;
const BYTES: u32 = 64;

/// CPUs that this machine may have, present or not.
pub fn possible_cpus() -> u32 {
    let cpus = aya::util::nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok());
    cpus.unwrap_or(1).max(1)
}

/// The number of entries of a table whose programs ask for at least `floor`. `bytes`
/// is the size of a key with its value, `cpus` the number of possible CPUs.
pub const fn entries(floor: u32, bytes: u32, cpus: u32) -> u32 {
    let most = MAX_BYTES / bytes.saturating_add(OVERHEAD_BYTES);
    let wanted = FOR_EACH_CPU.saturating_mul(cpus);
    let bounded = if wanted < most { wanted } else { most };
    if bounded > floor { bounded } else { floor }
}

/// The most bytes of kernel memory that the tables take on a machine with `cpus`
/// possible CPUs.
pub fn kernel_memory_bytes(cpus: u32) -> u64 {
    let wanted = u64::from(FOR_EACH_CPU) * u64::from(cpus) * u64::from(BYTES + OVERHEAD_BYTES);
    TABLES * wanted.min(u64::from(MAX_BYTES))
}

#[cfg(test)]
mod tests {
    use aya_obj::{Object, generated::bpf_map_type::BPF_MAP_TYPE_LRU_HASH};

    use super::*;
    use crate::load::{OBJECT, UNTYPED_OBJECT};

    /// Free entries that the CPUs can keep for themselves: up to 128 each
    /// (`LOCAL_FREE_TARGET` of the file above).
    const fn held_back(cpus: u32) -> u32 {
        128 * cpus
    }

    /// The floor and the bytes of each such table of an object.
    fn tables(object: &[u8]) -> Vec<(String, u32, u32)> {
        let object = Object::parse(object).unwrap();
        let maps =
            object.maps.iter().filter(|(_, map)| map.map_type() == BPF_MAP_TYPE_LRU_HASH as u32);
        let of = |map: &aya_obj::Map| map.key_size() + map.value_size();
        maps.map(|(name, map)| (name.clone(), map.max_entries(), of(map))).collect()
    }

    #[test]
    fn no_table_is_used_up_by_what_cpus_hold_back() {
        for object in [OBJECT, UNTYPED_OBJECT] {
            let tables = tables(object);
            assert!(!tables.is_empty());
            for (name, floor, bytes) in tables {
                for cpus in [1, 2, 3, 9, 16, 33, 64, 96] {
                    let entries = entries(floor, bytes, cpus);
                    assert!(
                        entries >= 256 * cpus && entries >= floor,
                        "{name}: {entries}, {cpus} CPUs"
                    );
                    assert!(entries >= 2 * held_back(cpus), "{name}: {entries}, {cpus} CPUs");
                }
            }
        }
    }

    #[test]
    fn on_the_largest_machines_they_stay_within_their_memory() {
        for object in [OBJECT, UNTYPED_OBJECT] {
            let tables = tables(object);
            let grown = tables.iter().filter(|(_, floor, _)| *floor < 32_768).count();
            assert_eq!(grown as u64, TABLES, "{tables:?}");
            for cpus in [1, 4, 128, 1024, 8192, u32::MAX] {
                let mut all = 0;
                for (name, floor, bytes) in &tables {
                    let entries = entries(*floor, *bytes, cpus);
                    let memory = u64::from(entries) * u64::from(bytes + OVERHEAD_BYTES);
                    assert!(memory <= 5 << 20, "{name}: {memory} bytes with {cpus} CPUs");
                    if entries > *floor {
                        assert!(*bytes <= BYTES, "{name} has {bytes} bytes");
                        all += memory;
                    }
                }
                assert!(all <= kernel_memory_bytes(cpus), "{cpus} CPUs: {all}");
            }
        }
    }
}
