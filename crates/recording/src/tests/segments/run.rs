//! A session without a kernel, second by second.

use std::ops::Range;

use super::*;

/// A session's seconds, as a flight recorder gets them.
pub struct Run {
    pub scene: Scene,
    pub second: u64,
    pub boot: &'static str,
    /// In a second.
    pub syncs: u64,
    pub grain: Grain,
    pub recorder: Option<Recorder>,
}

impl Run {
    pub fn new(boot: &'static str) -> Self {
        let clock = Clock::at(1_770_000_000_000_000_000, 1_000_000_000);
        let mut scene = Scene::new(Kernel::default(), clock, SECOND).unwrap();
        for (at, unit) in [(1, "etcd.service"), (2, "fstrim.service")] {
            let id = owners()[at].actor();
            let comm = tracer_scene::comm_text(&id.comm);
            let cgroup = format!("/system.slice/{unit}");
            let actor =
                Actor { comm, tgid: 800, cgroup, unit: Some(unit.into()), ..Actor::default() };
            scene.actors.learn(id, actor, 0);
        }
        Self { scene, second: 0, boot, syncs: 20, grain: Grain::Whole, recorder: None }
    }

    pub fn begin(&mut self, sink: Box<dyn Sink>, began: Began) {
        let now_ns = SECOND + self.second * SECOND;
        if let Some(before) = self.recorder.take().filter(|_| began == Began::Rotation) {
            before.end(now_ns, &mut self.scene).unwrap();
        }
        self.scene.actors.mark_all_changed();
        let part = Part { began: Some(began), boot: Some(self.boot.to_owned()), grain: self.grain };
        let mut recorder = Recorder::begin_part(sink, &self.scene, now_ns, part).unwrap();
        if began == Began::Rotation {
            recorder.checkpoint(&self.scene, &mut one_file());
        }
        self.recorder = Some(recorder);
    }

    /// Some syncs and a tick.
    pub fn second(&mut self) {
        self.syncs(0..self.syncs);
        self.tick();
    }

    /// Those of the syncs of a second that have these numbers.
    pub fn syncs(&mut self, numbers: Range<u64>) {
        let (owners, mut files) = (owners(), one_file());
        for n in numbers.map(|number| self.second * 20 + number) {
            let record = sync(n);
            let input = SyncInput { record: &record, underlying: &[], file: FileId(4), need_ns: 0 };
            self.scene.ingest(&input, |_| &owners);
            if let Some(recorder) = &mut self.recorder {
                recorder.sync(input, |_| &owners, &mut self.scene.actors, &mut files);
            }
        }
    }

    pub fn tick(&mut self) {
        let owners = owners();
        self.second += 1;
        let tick = tick(SECOND + self.second * SECOND);
        self.scene.tick(&tick, |id| owners[id.0 as usize].actor());
        self.scene.disks = vec![disk(self.second)];
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(&tick, &mut self.scene, |id| {
                let Owner { cgroup, comm, op, .. } = owners[id.0 as usize];
                OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via: 0 }
            });
        }
    }

    pub fn end(&mut self) {
        let at_ns = SECOND + self.second * SECOND;
        self.recorder.take().unwrap().end(at_ns, &mut self.scene).unwrap();
    }
}
