use proptest::prelude::*;

use super::{
    draft::{CONST, Draft, ENUM, FORWARD, FUNCTION, POINTER, PROTOTYPE, STRUCT, TYPEDEF, UNION},
    *,
};
use crate::{
    facts::{Facts, Modules},
    memlock,
};

/// A small kernel: an inode with an anonymous union, a tracepoint that hands
/// one out, and a journal that only a module knows.
fn kernel() -> Draft {
    let mut draft = Draft::base();
    let (ino, flags, sb) = (draft.string("i_ino"), draft.string("flags"), draft.string("i_sb"));
    draft.add(STRUCT, "super_block", 8, &[]); // 1
    draft.add(POINTER, "", 1, &[]); // 2
    draft.add(UNION, "", 8, &[&[sb, 2, 0], &[flags, 0, 3]]); // 3
    draft.add(STRUCT, "inode", 16, &[&[ino, 0, 0], &[0, 3, 64]]); // 4
    draft.add(CONST, "", 4, &[]); // 5
    draft.add(POINTER, "", 5, &[]); // 6
    draft.add(PROTOTYPE, "", 0, &[&[0, 0], &[0, 6]]); // 7
    draft.add(POINTER, "", 7, &[]); // 8
    draft.add(TYPEDEF, "btf_trace_sync", 8, &[]); // 9
    draft.add(FUNCTION, "do_sync", 7, &[]); // 10
    let answer = draft.string("ANSWER");
    draft.add(ENUM, "", 4, &[&[answer, 42]]); // 11
    draft.add(FORWARD, "journal_s", 0, &[]); // 12
    draft
}

const KERNEL_TYPES: u32 = 12;

/// A module that continues it.
fn module() -> Draft {
    let mut draft = Draft::after(&kernel());
    let inode = draft.string("j_inode");
    draft.add(STRUCT, "journal_s", 8, &[&[inode, 6, 32]]); // 13
    draft.add(FUNCTION, "journal_sync", 7, &[]); // 14
    draft
}

/// The only struct of a name.
fn only(types: &KernelTypes<'_>, name: &str) -> Result<u32> {
    types.read_struct(name, None, Ok)
}

/// Every question, to bytes of any kind.
fn ask_everything(bytes: &[u8], module: &[u8]) {
    let Ok(types) = KernelTypes::parse(bytes) else { return };
    for types in [types.with_module(module).ok(), Some(types)].into_iter().flatten() {
        for id in 0..=KERNEL_TYPES + 4 {
            types.field(id, "i_sb.s_dev");
            types.pointee(id);
        }
        types.tracepoint_args("sync");
        let _ = only(&types, "journal_s");
        let handed_out = types.handed_out("inode", &["sync", "do_sync"]);
        let _ = types.read_struct("inode", handed_out, Ok);
        types.function("journal_sync");
        types.enumerator("ANSWER");
    }
}

#[test]
fn a_field_is_found_through_anonymous_members_and_pointers() {
    let bytes = kernel().bytes();
    let types = KernelTypes::parse(&bytes).expect("is BTF");
    let inode = only(&types, "inode").expect("is there");
    assert_eq!(types.tracepoint_args("sync"), Some(vec![6]));
    assert_eq!(types.pointee(6), Some(inode));
    let sb = types.field(inode, "i_sb").expect("is there");
    assert_eq!((sb.offset_bytes, types.pointee(sb.type_id)), (8, Some(1)));
    assert!(types.field(inode, "flags").is_none(), "is not byte-aligned");
    assert_eq!(types.enumerator("ANSWER"), Some(42));
    assert_eq!((types.function("do_sync"), types.function("sync")), (Some(10), None));
}

#[test]
fn a_module_continues_the_numbers_of_its_kernel() {
    let (bytes, module) = (kernel().bytes(), module().bytes());
    let kernel = KernelTypes::parse(&bytes).expect("is BTF");
    let both = kernel.with_module(&module).expect("is BTF");
    assert!(only(&kernel, "journal_s").is_err(), "a forward declaration is no struct");
    let journal = only(&both, "journal_s").expect("is there");
    assert_eq!(journal, KERNEL_TYPES + 1);
    let inode = both.field(journal, "j_inode").expect("is there");
    assert_eq!((inode.offset_bytes, both.pointee(inode.type_id)), (4, Some(4)));
    assert_eq!(both.function("journal_sync"), Some(KERNEL_TYPES + 2));
    assert_eq!(both.tracepoint("sync"), kernel.tracepoint("sync"));
}

#[test]
fn types_that_run_in_circles_are_not_found() {
    let mut draft = Draft::base();
    draft.add(TYPEDEF, "btf_trace_sync", 1, &[]);
    draft.add(STRUCT, "inode", 0, &[&[0, 2, 0], &[0, 2, 0], &[0, 2, 0]]);
    let bytes = draft.bytes();
    let types = KernelTypes::parse(&bytes).expect("is BTF");
    assert!(types.tracepoint_args("sync").is_none());
    assert!(types.field(2, "i_ino").is_none());
}

#[test]
fn what_is_no_btf_is_said_to_be_none() {
    let whole = kernel().bytes();
    let mut foreign = whole.clone();
    foreign[..2].reverse();
    let mut unknown = kernel();
    unknown.add(99, "", 0, &[]);
    for (bytes, why) in [
        (&b"ELF"[..], "it does not begin as BTF does"),
        (&foreign, "its byte order is another machine's"),
        (&whole[..10], "its header is cut short"),
        (&whole[..100], "its header points beyond its end"),
        (&unknown.bytes(), "it holds types of an unknown kind 99"),
    ] {
        let error = KernelTypes::parse(bytes).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(why));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_module in any::<bool>(),
    ) {
        let (mut bytes, mut module) = (kernel().bytes(), module().bytes());
        let changed = if in_module { &mut module } else { &mut bytes };
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if let Some(cut) = cut {
            changed.truncate(cut.index(changed.len()));
        }
        ask_everything(&bytes, &module);
    }
}

#[test]
fn a_kernel_without_ring_buffers_is_too_old() {
    let kernel = kernel().bytes();
    let unknown = || "unknown".to_owned();
    let facts = Facts::from_btf(&kernel, &Modules::new(), Pointers::Typed, unknown(), unknown());
    assert!(facts.unwrap_err().to_string().contains("too old"));
}

/// As 5.10 has it in `struct bpf_map`, and 5.11 has not.
#[test]
fn maps_count_against_a_limit_where_there_is_a_struct_for_the_count() {
    assert!(!memlock::counts_maps(&kernel().bytes()));
    let mut old = kernel();
    old.add(STRUCT, "bpf_map_memory", 16, &[]);
    assert!(memlock::counts_maps(&old.bytes()));
    assert!(!memlock::counts_maps(b"no types"));
}
