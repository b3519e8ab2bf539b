//! The kernel's own description of its types (BTF), and the questions that we ask it.
//!
//! The questions are: where is a field, what does a tracepoint pass to a program, which
//! functions exist. The bytes come from the caller (from the running kernel, a file or a
//! test), so this module knows no kernel. No bytes make it panic or run forever: a type
//! that makes no sense is not found.
//!
//! `bpftool btf dump file /sys/kernel/btf/vmlinux` prints the types in this form:
//!
//! ```text
//! [99] STRUCT 'inode' size=632 vlen=45
//!         'i_mode' type_id=58 bits_offset=0 bits_size=0
//!         'i_sb' type_id=97 bits_offset=320 bits_size=0
//! [97] PTR '(anon)' type_id=96
//! [412] TYPEDEF 'btf_trace_block_rq_complete' type_id=411
//! ```
//!
//! A number in brackets is the id of a type; `type_id` refers to another one. A tracepoint
//! has a typedef, which leads to a pointer to a prototype; the program gets the arguments
//! that the prototype lists.

mod blob;
#[cfg(test)]
pub mod draft;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use tracer_ebpf::config::ABSENT;

use blob::{Blob, Head, Kind};

/// The largest numbers of steps through modifiers, and of members that are searched for one
/// name. Types that exceed them must refer to each other in a circle.
const MAX_MODIFIERS: usize = 32;
const MAX_MEMBERS: u32 = 4096;

/// How the verifier sees the kernel's pointers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pointers {
    /// The verifier checks pointers with the kernel's own BTF.
    Typed,
    /// The kernel has no BTF, so they are mere numbers to the verifier. Nobody checks that the
    /// types that we were given are the kernel's.
    Untyped,
}

/// The types of the kernel, or of the kernel with one module.
pub struct KernelTypes<'a> {
    base: Rc<Blob<'a>>,
    /// A module's blob continues the ids and string offsets of its base.
    module: Option<Blob<'a>>,
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
    /// The bytes are not BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { base: Rc::new(Blob::parse(bytes)?), module: None })
    }

    /// Adds the types of a module (`/sys/kernel/btf/ext4`).
    ///
    /// # Errors
    ///
    /// The bytes are not BTF.
    pub fn with_module(&self, bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { base: Rc::clone(&self.base), module: Some(Blob::parse(bytes)?) })
    }

    /// The id of a function of this name (it may still be inlined everywhere, which
    /// only a self-test shows).
    pub fn function(&self, name: &str) -> Option<u32> {
        self.ids_of(Kind::Function, name).next()
    }

    /// The id under which programs attach to a tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<u32> {
        self.ids_of(Kind::Typedef, &format!("btf_trace_{name}")).next()
    }

    /// Types of what a BTF tracepoint hands to a program; `None` where this
    /// kernel has no such tracepoint.
    pub fn tracepoint_args(&self, name: &str) -> Option<Vec<u32>> {
        // The first is the tracepoint's own private data.
        let args = self.args(self.pointee(self.tracepoint(name)?)?)?;
        Some(args.into_iter().skip(1).collect())
    }

    /// Types of what a function is called with.
    fn function_args(&self, name: &str) -> Option<Vec<u32>> {
        self.args(self.head(self.function(name)?)?.refers_to)
    }

    fn args(&self, prototype: u32) -> Option<Vec<u32>> {
        let head = self.head(prototype)?;
        if head.kind() != Kind::Prototype {
            return None;
        }
        (0..head.len()).map(|n| self.entry(prototype, n).map(|[_name, id]| id)).collect()
    }

    /// The struct behind a pointer type, by id.
    pub fn pointee(&self, type_id: u32) -> Option<u32> {
        let head = self.head(self.bare(type_id)?)?;
        if head.kind() == Kind::Pointer { self.bare(head.refers_to) } else { None }
    }

    /// The type of an array's elements, and how many there are: 0 where the struct that
    /// ends with it does not say.
    pub fn array(&self, type_id: u32) -> Option<(u32, u32)> {
        let (blob, index) = self.find(self.bare(type_id)?)?;
        let (element, count) = blob.array(index)?;
        Some((self.bare(element)?, count))
    }

    /// Whether a type is an integer that may be below 0.
    pub fn is_signed(&self, type_id: u32) -> bool {
        let signed = |id| {
            let (blob, index) = self.find(id)?;
            blob.is_signed(index)
        };
        self.bare(type_id).and_then(signed).unwrap_or(false)
    }

    /// The size of a struct.
    pub fn size_bytes(&self, type_id: u32) -> Option<u32> {
        let head = self.head(self.bare(type_id)?)?;
        matches!(head.kind(), Kind::Struct | Kind::Union).then_some(head.refers_to)
    }

    /// The first struct of this name.
    pub fn first_struct(&self, name: &str) -> Option<u32> {
        self.ids_of(Kind::Struct, name).next()
    }

    /// The struct of this name that a hook hands out, or the first of several: each of
    /// the functions and tracepoints is asked in turn.
    pub fn handed_out(&self, name: &str, hooks: &[&str]) -> Option<u32> {
        let args = hooks
            .iter()
            .filter_map(|hook| self.tracepoint_args(hook).or_else(|| self.function_args(hook)));
        let structs = args.flatten().filter_map(|arg| self.pointee(arg));
        structs.into_iter().find(|id| {
            self.head(*id)
                .is_some_and(|head| head.kind() == Kind::Struct && self.is_named(head.name, name))
        })
    }

    /// Reads of the struct of this name what `read` does. BTF may hold several of one
    /// name: where all agree in what is read, any of them will do, else the one that
    /// is handed out to programs.
    ///
    /// # Errors
    ///
    /// When there is none, or none that has what is read; when they differ, and nothing
    /// says which is meant.
    pub fn read_struct<T: PartialEq>(
        &self,
        name: &str,
        handed_out: Option<u32>,
        read: impl Fn(u32) -> Result<T>,
    ) -> Result<T> {
        let mut all = self.ids_of(Kind::Struct, name);
        let first = all.next().with_context(|| format!("no `struct {name}` in BTF"))?;
        let found = read(first);
        let mut others = 0;
        let mut agree = true;
        for id in all {
            others += 1;
            agree &= matches!((&found, read(id)), (Ok(one), Ok(other)) if *one == other);
        }
        match handed_out {
            _ if agree => found,
            Some(id) => read(id),
            None => bail!(
                "`struct {name}` is {} times in BTF, and they differ in what is read of them",
                others + 1
            ),
        }
    }

    /// A field of a struct by its path, such as `se.sum_exec_runtime`; fields
    /// of anonymous members are found by their own name. `None` where there is
    /// none, or where it is not byte-aligned.
    pub fn field(&self, type_id: u32, path: &str) -> Option<Field> {
        let mut at = Field { offset_bytes: 0, type_id };
        for name in path.split('.') {
            let mut budget = MAX_MEMBERS;
            let next = self.member(at.type_id, name, &mut budget)?;
            at = Field { offset_bytes: at.offset_bytes.checked_add(next.offset_bytes)?, ..next };
        }
        Some(at)
    }

    /// The offset of a field; [`ABSENT`] where there is none.
    pub fn offset(&self, of: u32, path: &str) -> u32 {
        self.field(of, path).map_or(ABSENT, |field| field.offset_bytes)
    }

    /// The offset of a field.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn required(&self, of: u32, name: &str, path: &str) -> Result<u32> {
        self.field(of, path)
            .map(|field| field.offset_bytes)
            .with_context(|| format!("no field `{path}` in this kernel's `struct {name}`"))
    }

    /// The struct that a pointer field leads to.
    ///
    /// # Errors
    ///
    /// When there is no such field, or it is no pointer.
    pub fn follow(&self, of: u32, path: &str) -> Result<u32> {
        self.field(of, path)
            .and_then(|field| self.pointee(field.type_id))
            .with_context(|| format!("no pointer `{path}` in this kernel's BTF"))
    }

    /// A field of the first argument of a tracepoint. There may be several structs of
    /// one name: the tracepoint determines which is meant.
    pub fn offset_in_first_arg(&self, tracepoint: &str, path: &str) -> Option<u32> {
        let args = self.tracepoint_args(tracepoint)?;
        let handed_out = self.pointee(*args.first()?)?;
        Some(self.field(handed_out, path)?.offset_bytes)
    }

    fn member(&self, type_id: u32, name: &str, budget: &mut u32) -> Option<Field> {
        let id = self.bare(type_id)?;
        let head = self.head(id)?;
        if !matches!(head.kind(), Kind::Struct | Kind::Union) {
            return None;
        }
        for n in 0..head.len() {
            *budget = budget.checked_sub(1)?;
            let [member, type_id, place] = self.entry(id, n)?;
            let (width, bits) =
                if head.has_bit_fields() { (place >> 24, place & 0x00ff_ffff) } else { (0, place) };
            let here = Field { offset_bytes: bits / 8, type_id };
            if self.is_named(member, name) {
                return (bits % 8 == 0 && width == 0).then_some(here);
            }
            if self.is_named(member, "")
                && let Some(inner) = self.member(type_id, name, budget)
            {
                let offset_bytes = here.offset_bytes.checked_add(inner.offset_bytes)?;
                return Some(Field { offset_bytes, ..inner });
            }
        }
        None
    }

    /// The value of an enumerator, wherever it is declared.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        let enums = self.heads().filter(|(_, head)| head.kind() == Kind::Enum);
        let mut values = enums.flat_map(|(id, head)| (0..head.len()).map(move |n| (id, n)));
        values.find_map(|(id, n)| {
            let [value_name, value] = self.entry(id, n)?;
            self.is_named(value_name, name).then_some(value)
        })
    }

    /// A type without its typedefs and modifiers.
    fn bare(&self, type_id: u32) -> Option<u32> {
        let mut id = type_id;
        for _ in 0..MAX_MODIFIERS {
            let head = self.head(id)?;
            if !matches!(head.kind(), Kind::Typedef | Kind::Modifier) {
                return Some(id);
            }
            id = head.refers_to;
        }
        None
    }

    fn ids_of<'b>(&'b self, kind: Kind, name: &'b str) -> impl Iterator<Item = u32> + 'b {
        let named = move |(_, head): &(u32, Head)| self.is_named(head.name, name);
        self.heads().filter(move |(_, head)| head.kind() == kind).filter(named).map(|(id, _)| id)
    }

    fn heads(&self) -> impl Iterator<Item = (u32, Head)> {
        let count = self.base.len() + self.module.as_ref().map_or(0, Blob::len);
        (1..=count).filter_map(|id| Some((id, self.head(id)?)))
    }

    /// The blob in which a type lies, and its place there. Type 0 is `void`,
    /// which lies nowhere.
    fn find(&self, type_id: u32) -> Option<(&Blob<'a>, u32)> {
        let index = type_id.checked_sub(1)?;
        match index.checked_sub(self.base.len()) {
            None => Some((&self.base, index)),
            Some(index) => Some((self.module.as_ref()?, index)),
        }
    }

    fn head(&self, type_id: u32) -> Option<Head> {
        let (blob, index) = self.find(type_id)?;
        blob.head(index)
    }

    fn entry<const WORDS: usize>(&self, type_id: u32, n: usize) -> Option<[u32; WORDS]> {
        let (blob, index) = self.find(type_id)?;
        blob.entry(index, n)
    }

    fn is_named(&self, name: u32, text: &str) -> bool {
        match name.checked_sub(self.base.strings_len()) {
            None => self.base.is_string(name, text),
            Some(name) => self.module.as_ref().is_some_and(|module| module.is_string(name, text)),
        }
    }
}
