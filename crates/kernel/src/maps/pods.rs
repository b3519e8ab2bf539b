//! Keys and values of maps, as the plain bytes that they are.

use aya::Pod;
use tracer_ebpf::{
    disks::Described,
    record::{ContenderKey, Handles, OwnerKey, Reclaimed},
};

/// A key or value of a map, as plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodOwnerKey(pub OwnerKey);
// SAFETY: integers only, without padding (proved by IntoBytes in the contract).
unsafe impl Pod for PodOwnerKey {}

/// A key of the map of contenders, as plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodContenderKey(pub ContenderKey);
// SAFETY: integers only, without padding (proved by IntoBytes in the contract).
unsafe impl Pod for PodContenderKey {}

/// A value of the map of reclaimers, as plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodReclaimed(pub Reclaimed);
// SAFETY: integers only, without padding (proved by IntoBytes in the contract).
unsafe impl Pod for PodReclaimed {}

/// A value of the map of journals' contents, as plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodHandles(pub Handles);
// SAFETY: integers only, without padding (proved by IntoBytes in the contract).
unsafe impl Pod for PodHandles {}

/// A value of the table of disks, as plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodDescribed(pub Described);
// SAFETY: integers only, without padding (proved by IntoBytes in the contract).
unsafe impl Pod for PodDescribed {}
