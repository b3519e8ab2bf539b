//! Measures what a load achieves alone, beside the tracer, and beside each peer.
//!
//! BPF statistics are off: counting has a price of its own.

use std::{path::Path, time::Duration};

use anyhow::Result;
use tracer_lab::{
    cgroup::Cgroup,
    etcd::{Etcd, etcd_installed},
    puts::Puts,
};

use super::{PEERS, Peer, Peers, Running};
use crate::{
    Round,
    fio::{FioWork, Stand},
    ours::Tracer,
    report::{
        rows::{
            BESIDE_CPU, BESIDE_P50, BESIDE_P99, BESIDE_PUT_P50, BESIDE_PUT_P99, BESIDE_READS,
            BESIDE_SYNCS, NOBODY, TRACER,
        },
        table::Table,
    },
    usage::Usage,
};

/// Puts per second of all clients together, far fewer than etcd can answer.
const PUTS: u32 = 400;
const CLIENTS: u32 = 2;

/// A real etcd, as another load than fio.
pub struct Victim(Option<Etcd>);

impl Victim {
    /// Starts etcd on the stand's disk; the victim is empty if etcd is not installed.
    pub fn start(stand: &Stand) -> Result<Self> {
        if !etcd_installed() {
            return Ok(Self(None));
        }
        let folder = stand.etcd_folder();
        Ok(Self(Some(Etcd::start(&folder, &Cgroup::create("etcd")?)?)))
    }

    async fn warm_up(&self) -> Result<()> {
        let Some(etcd) = &self.0 else { return Ok(()) };
        let puts = Puts::start(etcd, PUTS, CLIENTS)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        puts.stop();
        Ok(())
    }
}

enum Whom {
    Nobody,
    Ours,
    Peer(&'static Peer),
}

/// A variant that is running.
enum Variant {
    Nobody,
    Ours(Tracer),
    Peer(Running),
}

impl Variant {
    fn pid(&self) -> Option<u32> {
        match self {
            Self::Nobody => None,
            Self::Ours(tracer) => Some(tracer.pid()),
            Self::Peer(running) => Some(running.pid()),
        }
    }
}

pub async fn measure(
    stand: &Stand,
    victim: &Victim,
    tracer: &Path,
    peers: &mut Peers,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    // Without this, the first variant would meet an idle etcd.
    victim.warm_up().await?;
    let others = [Whom::Nobody, Whom::Ours].into_iter().chain(PEERS.iter().map(Whom::Peer));
    for whom in round.order(others.collect()) {
        match whom {
            Whom::Nobody => {
                measure_one(stand, victim, NOBODY, &Variant::Nobody, round, table).await?;
            }
            Whom::Ours => measure_ours(stand, victim, tracer, round, table).await?,
            Whom::Peer(peer) => match peers.start(peer).await {
                Ok(running) => {
                    let variant = Variant::Peer(running);
                    measure_one(stand, victim, peer.name, &variant, round, table).await?;
                }
                Err(why) => table.note_missing(&BESIDE_READS, peer.name, &why),
            },
        }
    }
    Ok(())
}

async fn measure_ours(
    stand: &Stand,
    victim: &Victim,
    tracer: &Path,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    let variant = Variant::Ours(Tracer::start(tracer).await?);
    measure_one(stand, victim, TRACER, &variant, round, table).await?;
    if let Variant::Ours(tracer) = variant {
        tracer.stop()?;
    }
    Ok(())
}

async fn measure_one(
    stand: &Stand,
    victim: &Victim,
    who: &str,
    variant: &Variant,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say(&format!("the loads beside: {who}"));
    let cpu =
        |variant: &Variant| variant.pid().map(|pid| Usage::read(pid).map(|usage| usage.cpu_s));
    let before = cpu(variant).transpose()?;
    let figures = stand.run(FioWork::Reads, round.length).await?;
    table.note(&BESIDE_READS, who, "/s", figures.reads_per_second);
    if let (Some(before), Some(after)) = (before, cpu(variant).transpose()?) {
        let percent = 100.0 / round.length.as_secs_f64();
        table.note(&BESIDE_CPU, who, "%", (after - before) * percent);
    }

    let figures = stand.run(FioWork::Syncs, round.length).await?;
    table.note(&BESIDE_SYNCS, who, "/s", figures.syncs_per_second);
    table.note(&BESIDE_P50, who, "µs", figures.sync_p50_us);
    table.note(&BESIDE_P99, who, "µs", figures.sync_p99_us);

    let Some(etcd) = &victim.0 else {
        for section in [&BESIDE_PUT_P50, &BESIDE_PUT_P99] {
            table.note_missing(section, who, "etcd is not installed");
        }
        return Ok(());
    };
    let puts = Puts::start(etcd, PUTS, CLIENTS)?;
    // The first puts include the time to connect.
    tokio::time::sleep(Duration::from_millis(200)).await;
    puts.drain();
    tokio::time::sleep(round.length).await;
    let work = puts.stop();
    for (section, latency) in [(&BESIDE_PUT_P50, work.p50), (&BESIDE_PUT_P99, work.p99)] {
        table.note(section, who, "µs", latency.as_secs_f64() * 1e6);
    }
    Ok(())
}
