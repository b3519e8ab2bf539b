//! The kernel's own description of its types (BTF), and what we ask of it.
//!
//! Owns the questions: where a field lies, what a tracepoint hands out, which
//! functions exist. Reads bytes that somebody else brought (the running
//! kernel's, a file's, a fixture's), so it knows no kernel of its own.

use anyhow::{Context as _, Result, anyhow, bail};
use btf::types::{Btf, BtfComposite, BtfType};

/// A parsed BTF blob. Type ids are those of the blob.
pub struct KernelTypes<'a> {
    btf: Btf<'a>,
}

/// One field: where it lies, and its type.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub offset_bytes: u32,
    pub type_id: u32,
}

impl<'a> KernelTypes<'a> {
    /// Parses raw BTF as `/sys/kernel/btf/vmlinux` holds it.
    ///
    /// # Errors
    ///
    /// When the bytes are no BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let btf = Btf::load_raw(bytes).map_err(|e| anyhow!("not readable as BTF: {e}"))?;
        Ok(Self { btf })
    }

    /// Whether a function exists under this name (it may still be inlined
    /// everywhere: only a self-test tells).
    pub fn has_function(&self, name: &str) -> bool {
        self.btf.types().iter().any(|t| matches!(t, BtfType::Func(f) if f.name == name))
    }

    /// Types of what a BTF tracepoint hands to a program; `None` where this
    /// kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<u32>> {
        let typedef = self.btf.types().iter().find_map(|t| match t {
            BtfType::Typedef(t) if t.name.strip_prefix("btf_trace_") == Some(name) => Some(t),
            _ => None,
        })?;
        let pointer = self.btf.skip_mods_and_typedefs(typedef.type_id);
        let BtfType::Ptr(pointer) = self.btf.type_by_id(pointer) else { return None };
        let BtfType::FuncProto(proto) = self.btf.type_by_id(pointer.type_id) else { return None };
        // The first is the tracepoint's own private data.
        Some(proto.params.iter().skip(1).map(|p| p.type_id).collect())
    }

    /// The struct behind a pointer type, by id.
    pub fn pointee(&self, type_id: u32) -> Option<u32> {
        let id = self.btf.skip_mods_and_typedefs(type_id);
        let BtfType::Ptr(pointer) = self.btf.type_by_id(id) else { return None };
        Some(self.btf.skip_mods_and_typedefs(pointer.type_id))
    }

    fn composite(&self, type_id: u32) -> Option<&BtfComposite<'_>> {
        match self.btf.type_by_id(self.btf.skip_mods_and_typedefs(type_id)) {
            BtfType::Struct(c) | BtfType::Union(c) => Some(c),
            _ => None,
        }
    }

    /// The struct that bears a name; an error where several different ones do,
    /// since taking the wrong one reads out of bounds.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one.
    pub fn struct_named(&self, name: &str) -> Result<u32> {
        let mut found = (0u32..).zip(self.btf.types()).filter_map(|(id, t)| match t {
            BtfType::Struct(c) if c.name == name => Some(id),
            _ => None,
        });
        let first = found.next().with_context(|| format!("no `struct {name}` in BTF"))?;
        if found.next().is_some() {
            bail!("more than one `struct {name}` in BTF");
        }
        Ok(first)
    }

    /// A field of a struct by its path, such as `se.sum_exec_runtime`; fields
    /// of anonymous members are found by their own name. `None` where there is
    /// none, or where it is not byte-aligned.
    pub fn field(&self, type_id: u32, path: &str) -> Option<Field> {
        let mut at = Field { offset_bytes: 0, type_id };
        for name in path.split('.') {
            let next = self.member(at.type_id, name)?;
            at = Field { offset_bytes: at.offset_bytes + next.offset_bytes, ..next };
        }
        Some(at)
    }

    fn member(&self, type_id: u32, name: &str) -> Option<Field> {
        self.composite(type_id)?.members.iter().find_map(|member| {
            let (bits, type_id) = (member.bit_offset, member.type_id);
            let here = Field { offset_bytes: bits / 8, type_id };
            if member.name == name {
                return (bits % 8 == 0 && member.bit_size == 0).then_some(here);
            }
            if !member.name.is_empty() {
                return None;
            }
            let inner = self.member(type_id, name)?;
            Some(Field { offset_bytes: here.offset_bytes + inner.offset_bytes, ..inner })
        })
    }

    /// The value of an enumerator, wherever it is declared.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.btf.types().iter().find_map(|t| match t {
            BtfType::Enum(e) => e.values.iter().find(|v| v.name == name).map(|v| v.value as u32),
            _ => None,
        })
    }
}
