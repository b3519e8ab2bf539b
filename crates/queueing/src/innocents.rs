//! A light reader that does what it always did, while the device or another neighbour makes the
//! victim slow.
//!
//! The reader's generator never changes, so its part in the wait is nothing, whatever the disk is
//! and whoever else there is. It may be held up, and make up for that later.

use tracer_disk_model::Model;
use tracer_engine::{blame::OwnerId, verdict::Judgement};
use tracer_timelines::{
    cell::{Cell, DEVICES, DISKS, Device, KINDS, LOADS, Neighbour, Play},
    dice::Dice,
    timeline::{Does, Phase, Stream, TRIMS, Timeline, phase, reads, stalls, well},
};

use super::{
    matrix::{drawn, from_environment, play_each},
    world::World,
};

/// A light reader beside another neighbour.
#[derive(Clone, Copy, Debug)]
struct Beside {
    play: Play,
    reader: Stream,
    /// The other neighbour before the change and after it.
    other: [Option<Stream>; 2],
    catches_up: bool,
    /// The seconds that were watched before the change.
    watched: u64,
}

impl Beside {
    fn draw(seed: u64) -> Self {
        let mut dice = Dice(seed);
        // The device changes in half of them.
        let device = dice.one(&DEVICES);
        let device = dice.one(&[Device::Unchanged, device]);
        let cell = Cell {
            disk: dice.one(&DISKS),
            device,
            neighbour: Neighbour::Unchanged,
            does: dice.one(&KINDS),
            load: dice.one(&LOADS),
        };
        let play = Play::of(cell, &mut dice);
        let steady = play.streams[0];
        let more = |stream: Stream, times: u64| Stream {
            per_second: stream.per_second.map(|rate| rate * times),
            ..stream
        };
        let full = |stream: Stream| match stream.does {
            // The kernel writes back what was dirtied, and that has a rate.
            Does::BufferedWrite => more(stream, 100 / cell.load),
            _ => Stream { per_second: None, ..stream },
        };
        let other = match dice.one(&[0, 1, 2, 3, 4, 5]) {
            0 => [steady; 2],
            1 => [steady, steady.map(|stream| more(stream, 2))],
            2 => [steady, steady.map(full)],
            3 => [None, steady.map(full)],
            4 => [None, steady.map(|stream| Stream { deep: 32, ..full(stream) })],
            _ => [None, Some(TRIMS)],
        };
        Self {
            play,
            reader: reads(1, Some(dice.within(20.0, 60.0) as u64)),
            other,
            catches_up: dice.one(&[false, true]),
            watched: dice.one(&[10, 20, 45, 90]),
        }
    }

    fn phase(&self, at: usize, seconds: u64) -> Phase {
        let phase = phase(seconds, self.play.disks[at], &[self.reader]);
        let neighbours = [Some(self.reader), self.other[at]];
        Phase { neighbours, catches_up: [self.catches_up, false], ..phase }
    }

    /// Whether the victim's mean sync takes twice as long after the change as before it.
    fn is_slow(&self) -> bool {
        let mut timeline = Timeline::new(self.play.seed);
        let mean = |ns: &[u64]| ns.iter().sum::<u64>() as f64 / ns.len().max(1) as f64;
        let [before, after] = [(0, 90), (1, 30)].map(|(at, s)| timeline.play(self.phase(at, s)));
        mean(&after) >= 2.0 * mean(&before)
    }

    /// The verdict on half a minute after the change.
    fn judge(&self) -> Option<Judgement> {
        let mut world = World::new(self.play.seed);
        world.pass(self.phase(0, 90 - self.watched));
        world.judge(&[self.phase(0, self.watched)]);
        world.engine.begin_period();
        world.judge(&[self.phase(1, 30)])
    }
}

/// The number of verdicts on a victim that became slow, and the number of these that name the
/// reader, which has account 2.
fn count(seed: u64, timelines: u64) -> (u64, u64) {
    let judged = play_each(timelines, |number| {
        let beside = Beside::draw(drawn(seed, number));
        if beside.play.is_wearing() || !beside.is_slow() {
            return None;
        }
        Some((beside.judge()?, beside))
    });
    let (mut slow, mut named) = (0, 0);
    for (said, beside) in judged.into_iter().flatten() {
        slow += 1;
        if said.culprits.iter().any(|culprit| culprit.owner == OwnerId(2)) {
            named += 1;
            println!("{:?} {:.2?}: {beside:?}", said.kind, said.shares);
        }
    }
    (slow, named)
}

/// Three of a thousand, as of all owners without a part in the truth. Whoever is named has 5 % or
/// more, whatever the confidence.
#[test]
fn a_light_reader_that_does_what_it_always_did_is_not_named() {
    let timelines = from_environment("TRACER_BESIDE_TIMELINES", 600);
    let (slow, named) = count(from_environment("TRACER_SEED", 3), timelines);
    assert!(slow >= timelines / 2, "{slow} of {timelines} are slow");
    assert!(1000 * named <= 3 * slow, "{named} of {slow}");
}

/// A disk stops for half of each second, in which no request of the reader ends. With one that
/// makes up for it as many are made as without a stop, and fewer with one that does not.
#[test]
fn a_reader_that_was_held_up_makes_up_for_it() {
    let stops = Model { stalls: stalls(1_000, 500), ..well() };
    let made = |catches_up: bool| {
        let mut timeline = Timeline::new(1);
        let phase = phase(20, stops, &[reads(1, Some(50))]);
        timeline.play(Phase { catches_up: [catches_up, false], ..phase });
        timeline.count()[2].completed
    };
    assert!((950..=1_050).contains(&made(true)), "{}", made(true));
    assert!(made(false) < 650, "{}", made(false));
}
