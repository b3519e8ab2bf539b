//! How the cost grows: with the rate of requests, with CPUs, with owners, with requests in
//! flight, with syncs at a time, with disks, with victims.
//!
//! Each point has a tracer of its own, so that nothing of an earlier point is left, and
//! a second of load.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

use crate::{
    Round,
    fio::{FioWork, Rate, Rates, Stand},
    load::{Action, Spec},
    loops::Loops,
    ours::Tracer,
    peers::kernel::count_requests,
    report::{
        curve::Curve,
        requirements::{IOPS, USER_CPU},
    },
    sizes::mib,
};

const LENGTH: Duration = Duration::from_secs(1);
/// Points that are compared run for this long, so that 10 ms are under one percent of a core.
const LONGER: Duration = Duration::from_secs(2);

pub const KERNEL: &str = "kernel, all programs";
const MEMORY: &str = "resident size";
const MAPS: &str = "kernel memory of maps";

const RATES: [u32; 7] = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];
/// Syncs per second that run beside the reads.
const SYNCS: u32 = 200;
const OWNERS: [u32; 7] = [1, 4, 16, 64, 256, 1024, 4096];
const DEPTHS: [u32; 6] = [1, 4, 16, 64, 256, 1024];
const THREADS: [u32; 6] = [1, 4, 16, 64, 256, 1024];
const DISKS: [usize; 5] = [1, 4, 16, 64, 256];
const VICTIMS: [u32; 6] = [1, 4, 16, 64, 256, 1024];

/// The rate that stands for "as fast as it goes".
const READS: Rates = Rates { reads: Some(Rate::Unlimited), ..Rates::NONE };

/// Empty curves, in the order of the page.
pub fn curves() -> Vec<Curve> {
    vec![
        Curve::new(
            IOPS,
            "Cost against requests per second",
            "reads/s asked for (last: as fast as it goes), beside 200 fdatasyncs/s",
        ),
        Curve::new("cpus", "Cost against CPUs", "CPUs, with a reader on each"),
        Curve::new("owners", "Cost against owners", "owners"),
        Curve::new("depth", "Cost against requests in flight", "reads in flight"),
        Curve::new("syncs", "Cost against concurrent syncs", "threads that sync"),
        Curve::new("disks", "Cost against disks", "disks that are read"),
        Curve::new("victims", "Cost against victims", "victims"),
    ]
}

/// The measurements of a load while the tracer runs.
struct Sample {
    run_time_ns: f64,
    requests: f64,
    cpu_percent: f64,
    rss_mib: f64,
    maps_mib: f64,
}

/// The inputs of one point.
struct Ground<'a> {
    stand: &'a Stand,
    tracer: &'a Path,
    round: &'a Round,
}

pub async fn measure(
    stand: &Stand,
    tracer: &Path,
    round: &Round,
    curves: &mut [Curve],
) -> Result<()> {
    let _counting = enable_stats(Stats::RunTime)
        .context("failed to turn BPF statistics on: they need kernel 5.8 or newer")?;
    let ground = Ground { stand, tracer, round };
    for curve in curves {
        match curve.name.as_str() {
            IOPS => ground.rates(curve).await?,
            "cpus" => ground.cpus(curve).await?,
            "owners" => ground.owners(curve).await?,
            "depth" => ground.depths(curve).await?,
            "syncs" => ground.threads(curve).await?,
            "disks" => ground.disks(curve).await?,
            _ => ground.victims(curve).await?,
        }
    }
    Ok(())
}

impl Ground<'_> {
    /// The points in ascending order in one round, and in descending order in the next.
    fn order<T: Copy>(&self, points: &[T]) -> Vec<T> {
        let mut points = points.to_vec();
        if self.round.reversed {
            points.reverse();
        }
        points
    }

    fn say(&self, curve: &Curve, x: impl std::fmt::Display) {
        self.round.say(&format!("{}: {x}", curve.title.to_lowercase()));
    }

    async fn rates(&self, curve: &mut Curve) -> Result<()> {
        let rates: Vec<_> =
            RATES.iter().copied().map(Rate::PerSecond).chain([Rate::Unlimited]).collect();
        for rate in self.order(&rates) {
            self.say(curve, rate);
            let syncs = Some(Rate::PerSecond(SYNCS));
            let work = FioWork::Both(Rates { reads: Some(rate), syncs, ..Rates::NONE });
            let mut got = None;
            let sample = self.sample(LONGER, async {
                got = Some(self.stand.run(work, LONGER).await?);
                Ok(())
            });
            let sample = sample.await?;
            let figures = got.unwrap_or_default();
            // The point lies at the requested rate, since the reached rate differs by round.
            let x = rate.per_second_or(UNLIMITED);
            curve.note(KERNEL, "ns per request", x, sample.per_request());
            curve.note(USER_CPU, "% of a core", x, sample.cpu_percent);
            curve.note("reads that the load got", "/s", x, figures.reads_per_second);
            curve.note("fdatasyncs that the load got", "/s", x, figures.syncs_per_second);
        }
        Ok(())
    }

    async fn owners(&self, curve: &mut Curve) -> Result<()> {
        for owners in self.order(&OWNERS) {
            self.say(curve, owners);
            let mut spec = Spec::new(vec![self.stand.read_file()], Action::Read, LENGTH);
            spec.owners = owners;
            let sample = self.sample_of(&spec).await?.0;
            sample.note_requests(curve, f64::from(owners));
        }
        Ok(())
    }

    async fn depths(&self, curve: &mut Curve) -> Result<()> {
        for depth in self.order(&DEPTHS) {
            self.say(curve, depth);
            self.read_all(curve, depth, Rates { depth, ..READS }).await?;
        }
        Ok(())
    }

    async fn cpus(&self, curve: &mut Curve) -> Result<()> {
        let there = thread::available_parallelism()?.get().try_into().unwrap_or(u32::MAX);
        let points: Vec<_> = (0..).map(|n| 1 << n).take_while(|cpus| *cpus <= there).collect();
        for cpus in self.order(&points) {
            self.say(curve, cpus);
            self.read_all(curve, cpus, Rates { cpus, ..READS }).await?;
        }
        Ok(())
    }

    async fn read_all(&self, curve: &mut Curve, x: u32, rates: Rates) -> Result<()> {
        let load = async { self.stand.run(FioWork::Both(rates), LENGTH).await.map(drop) };
        self.sample(LENGTH, load).await?.note_requests(curve, f64::from(x));
        Ok(())
    }

    async fn threads(&self, curve: &mut Curve) -> Result<()> {
        self.syncs(curve, &THREADS, |spec, threads| spec.threads = threads).await
    }

    async fn victims(&self, curve: &mut Curve) -> Result<()> {
        self.syncs(curve, &VICTIMS, |spec, victims| spec.owners = victims).await
    }

    /// Many threads that sync one file.
    async fn syncs(
        &self,
        curve: &mut Curve,
        points: &[u32],
        set: fn(&mut Spec, u32),
    ) -> Result<()> {
        for point in self.order(points) {
            self.say(curve, point);
            let mut spec = Spec::new(vec![self.stand.append_file()], Action::Sync, LENGTH);
            set(&mut spec, point);
            let (sample, done) = self.sample_of(&spec).await?;
            sample.note_syncs(curve, f64::from(point), done);
        }
        Ok(())
    }

    async fn disks(&self, curve: &mut Curve) -> Result<()> {
        for disks in self.order(&DISKS) {
            self.say(curve, disks);
            // The disks exist before the tracer starts, because it sizes its tables by them.
            let loops = Loops::create(disks)?;
            let spec = Spec::new(loops.devices.clone(), Action::Read, LENGTH);
            let sample = self.sample_of(&spec).await?.0;
            sample.note_requests(curve, disks as f64);
        }
        Ok(())
    }

    async fn sample_of(&self, spec: &Spec) -> Result<(Sample, u64)> {
        let mut done = 0;
        let load = async {
            done = spec.run().await?.done;
            Ok(())
        };
        let sample = self.sample(LENGTH, load).await?;
        Ok((sample, done))
    }

    /// A tracer's cost during a load.
    async fn sample(
        &self,
        length: Duration,
        load: impl Future<Output = Result<()>>,
    ) -> Result<Sample> {
        let tracer = Tracer::start(self.tracer).await?;
        let (runs, requests, usage) = (tracer.since.runs(), count_requests(), tracer.usage()?);
        let begin = Instant::now();
        load.await?;
        let seconds = begin.elapsed().max(length).as_secs_f64();
        let runs = tracer.since.runs().less(runs);
        let after = tracer.usage()?;
        let sample = Sample {
            run_time_ns: runs.ns as f64,
            requests: count_requests().saturating_sub(requests).max(1) as f64,
            cpu_percent: (after.cpu_s - usage.cpu_s) * 100.0 / seconds,
            rss_mib: mib(after.rss_bytes),
            maps_mib: mib(tracer.since.map_bytes()),
        };
        tracer.stop()?;
        Ok(sample)
    }
}

/// The x of "as fast as it goes": more than a loop device can do.
const UNLIMITED: f64 = 200_000.0;

impl Sample {
    fn per_request(&self) -> f64 {
        self.run_time_ns / self.requests
    }

    fn note_requests(&self, curve: &mut Curve, x: f64) {
        curve.note(KERNEL, "ns per request", x, self.per_request());
        self.note_user(curve, x);
    }

    fn note_syncs(&self, curve: &mut Curve, x: f64, syncs: u64) {
        curve.note(KERNEL, "ns per fdatasync", x, self.run_time_ns / syncs.max(1) as f64);
        self.note_user(curve, x);
    }

    fn note_user(&self, curve: &mut Curve, x: f64) {
        curve.note(USER_CPU, "% of a core", x, self.cpu_percent);
        curve.note(MEMORY, "MiB", x, self.rss_mib);
        curve.note(MAPS, "MiB", x, self.maps_mib);
    }
}
