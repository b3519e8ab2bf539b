use tracer::kernel::{facts::*, load::*, selftest};
use tracer_ebpf::record::*;
use zerocopy::FromBytes;
fn main() {
    let t = std::time::Instant::now();
    let btf = std::path::Path::new(VMLINUX_BTF);
    let facts = Facts::of_this_machine(btf).unwrap();
    println!("facts {:?} {:?}", t.elapsed(), facts);
    let mut p =
        Programs::create(&facts, Sizes { disks: 32, in_flight: 8192 }, btf, Wishes::default())
            .unwrap();
    println!("maps {:?}", t.elapsed());
    p.climb(&facts);
    println!("climb {:?}", t.elapsed());
    for c in p.climbs() {
        println!(
            "{}: {:?}",
            c.capability,
            c.rungs.iter().map(|(n, o)| format!("{n}: {o}")).collect::<Vec<_>>()
        );
    }
    let mut disks: aya::maps::HashMap<_, u32, PodDisk> =
        aya::maps::HashMap::try_from(p.take_map("DISKS").unwrap()).unwrap();
    disks.insert(254 << 20, PodDisk(Disk { index: 0, base: 0, queues: 1, depth: 257 }), 0).unwrap();
    let mut ring = p.take_ring().unwrap();
    let f = selftest::find_folder().unwrap();
    println!("{f:?}");
    let done = selftest::perform(&f).unwrap();
    let mut v = vec![];
    while let Some(i) = ring.next() {
        if let Ok(r) = SyncRecord::ref_from_bytes(&i) {
            let mut r2 = *r;
            r2.areas = [0; 64];
            println!(
                "{:?} areas {:?}",
                r2,
                r.areas.iter().filter(|a| **a != 0).collect::<Vec<_>>()
            );
            v.push(*r);
        } else {
            println!("len {}", i.len());
        }
    }
    println!("{:?} {:?}", done, selftest::judge(done, &v));
    let l = aya::maps::Array::<_, u64>::try_from(p.take_map("LOSSES").unwrap()).unwrap();
    println!("losses {:?}", l.iter().map(|x| x.unwrap()).collect::<Vec<_>>());
}
