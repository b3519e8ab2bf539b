//! Draws a plot with plotters, one panel below the other.

use std::io;

use plotters::{drawing::IntoDrawingArea as _, prelude::SVGBackend, style::RGBColor};

use super::{
    Chart, Column, Measure,
    axis::{decades, levels},
    panel::{Panel, Sheet, Side, WIDTH},
    steps::{area, line, runs},
};
use crate::{
    cli::moments::Zone,
    output::{
        report::html,
        units::{duration, rate},
    },
};
use tracer_snapshot::Phase;

/// Colours that people who see fewer of them can distinguish, and that differ in brightness:
/// <https://jfly.uni-koeln.de/color/>.
const P99: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const P50: RGBColor = RGBColor(0x2b, 0x8c, 0xc4);
const LANE: RGBColor = RGBColor(0xa0, 0x5a, 0x9c);
const QUEUE: RGBColor = P50;
const DEVICE: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const SLOW: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
const MISSING: RGBColor = RGBColor(0x88, 0x88, 0x88);

/// Heights in pixels.
const CAPTION: i32 = 28;
const LATENCY: i32 = 150;
const LANE_HEIGHT: i32 = 22;
const PHASES: i32 = 120;
const DISK: i32 = 90;
const FOOT: i32 = 26;

/// With more columns than this, a line has no markers.
const MARKED_COLUMNS: usize = 60;

/// A phase with a smaller part of the time is not drawn.
const LEAST_PHASE: f64 = 0.001;

/// The colours of texts on a light and on a dark page; each has a halo, so that it can be read
/// on top of an area, too.
const STYLE: &str = "<style>text{fill:#1c1e21;stroke:#fff;stroke-width:3px;stroke-linejoin:round;\
                     paint-order:stroke}@media screen and (prefers-color-scheme:dark){text{fill:\
                     #e4e6e9;stroke:#1b1e22}}</style>";

/// Draws a plot as SVG.
///
/// # Errors
///
/// When plotters fails.
pub fn draw(chart: &Chart, zone: &Zone) -> io::Result<String> {
    let lanes = (CAPTION + LANE_HEIGHT) * chart.lanes.len() as i32;
    let height = 3 * CAPTION + LATENCY + lanes + PHASES + DISK + FOOT;
    let mut svg = String::new();
    let size = (WIDTH, height.unsigned_abs());
    let sheet = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let mut top = 0;
    latencies(chart, &sheet, next(&mut top, LATENCY))?;
    for lane in 0..chart.lanes.len() {
        draw_lane(chart, lane, &sheet, next(&mut top, LANE_HEIGHT))?;
    }
    phases(chart, &sheet, next(&mut top, PHASES))?;
    disk(chart, zone, &sheet, next(&mut top, DISK))?;
    sheet.present().map_err(|error| io::Error::other(error.to_string()))?;
    drop(sheet);
    let words = html(&chart.sentence());
    let head = format!("<svg role=\"img\" aria-label=\"{words}\" ");
    let svg = svg.replacen("<svg ", &head, 1).replacen(">\n", &format!(">\n{STYLE}\n"), 1);
    Ok(format!("{}\n", svg.trim_end()))
}

/// The room of the next panel, below its caption.
fn next(top: &mut i32, height: i32) -> [i32; 2] {
    let panel = [*top + CAPTION, *top + CAPTION + height];
    *top = panel[1];
    panel
}

/// A panel with what all of them show: slow times, times without data, marks.
fn panel<'a>(
    chart: &Chart,
    sheet: &Sheet<'a>,
    values: [f64; 2],
    room: [i32; 2],
) -> io::Result<Panel<'a>> {
    let panel = Panel::new(sheet, [chart.from, chart.to], values, room);
    chart.slow.iter().try_for_each(|span| panel.band(*span, SLOW, 0.16))?;
    chart.gaps.iter().try_for_each(|span| panel.band(*span, MISSING, 0.4))?;
    for at in within(chart, &chart.marks) {
        panel.path(vec![(at, values[0]), (at, values[1])], MISSING, 1.0, 2)?;
    }
    Ok(panel)
}

fn within<'a>(chart: &'a Chart, moments: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    moments.iter().copied().filter(|at| (chart.from..=chart.to).contains(at))
}

/// Draws p50 and p99 on a logarithmic axis.
fn latencies(chart: &Chart, sheet: &Sheet<'_>, room: [i32; 2]) -> io::Result<()> {
    let columns = &chart.columns;
    let all = columns.iter().flat_map(|column| [column.p50_seconds, column.p99_seconds]);
    let [low, high] = decades(all).map(f64::log10);
    let panel = panel(chart, sheet, [low, high], room)?;
    panel.frame(None)?;
    for power in low as i32..=high as i32 {
        panel.level(f64::from(power), &duration(10_f64.powi(power)))?;
    }
    panel.caption("duration of its syncs: p99 ▲ (thick), p50 ● (thin)")?;
    let log = |seconds: f64| seconds.max(1e-9).log10().max(low);
    let p50 = |at: usize| log(columns[at].p50_seconds);
    let p99 = |at: usize| log(columns[at].p99_seconds);
    for run in runs(columns, |at| columns[at].syncs > 0) {
        panel.path(line(columns, &run, p50), P50, 1.0, 1)?;
        panel.path(line(columns, &run, p99), P99, 1.0, 3)?;
        for at in run.into_iter().filter(|_| columns.len() <= MARKED_COLUMNS) {
            let middle = f64::midpoint(columns[at].from, columns[at].to);
            panel.circle((middle, p50(at)), P50)?;
            panel.triangle((middle, p99(at)), P99)?;
        }
    }
    if let Some(last) = columns.iter().rposition(|column| column.syncs > 0) {
        // Two labels at one height could not be read.
        let (low, high) = (panel.height(p50(last)), panel.height(p99(last)));
        let apart = (14.0 - (high - low)).max(0.0) / panel.pixels * panel.span() / 2.0;
        panel.say((chart.to, p99(last) + apart), "p99 ▲", Side::Right)?;
        panel.say((chart.to, p50(last) - apart), "p50 ●", Side::Right)?;
    }
    for [from, to] in &chart.slow {
        let (from, to) = (from.max(chart.from), to.min(chart.to));
        if panel.width(to - from) > 40.0 {
            panel.say_at_top(f64::midpoint(from, to), "slow")?;
        }
    }
    for [from, to] in &chart.gaps {
        let (from, to) = (from.max(chart.from), to.min(chart.to));
        if panel.width(to - from) > 60.0 {
            panel.say_at_top(f64::midpoint(from, to), "no data")?;
        }
    }
    within(chart, &chart.marks).try_for_each(|at| panel.say_at_bottom(at, "mark"))
}

/// Draws an actor's activity, scaled to its own maximum.
fn draw_lane(chart: &Chart, lane: usize, sheet: &Sheet<'_>, room: [i32; 2]) -> io::Result<()> {
    let lane = &chart.lanes[lane];
    let most = lane.values.iter().copied().fold(0.0, f64::max);
    let scale = if most > 0.0 { most } else { 1.0 };
    let panel = panel(chart, sheet, [0.0, scale], room)?;
    panel.frame(None)?;
    let unit = match lane.measure {
        Measure::InFlight => format!("up to {} requests in flight", rate(most)),
        Measure::Blamed => format!("up to {} of the wait per second", duration(most)),
    };
    panel.caption(&format!("{}: {unit}", lane.name))?;
    let value = |at: usize| lane.values.get(at).copied().unwrap_or(0.0);
    for run in runs(&chart.columns, |_| true) {
        panel.fill(area(&chart.columns, &run, |_| 0.0, value), LANE, 0.9)?;
    }
    Ok(())
}

/// Draws the mean sync, divided by phase.
fn phases(chart: &Chart, sheet: &Sheet<'_>, room: [i32; 2]) -> io::Result<()> {
    let columns = &chart.columns;
    let mean = |column: &Column, phase| column.phases[phase] / column.syncs.max(1) as f64;
    let total = |column: &Column| column.phases.total() / column.syncs.max(1) as f64;
    let most = columns.iter().map(total).fold(0.0, f64::max);
    let top = if most > 0.0 { most * 1.05 } else { 1e-3 };
    let panel = panel(chart, sheet, [0.0, top], room)?;
    panel.frame(None)?;
    levels(top).into_iter().try_for_each(|value| panel.level(value, &duration(value)))?;
    let all: f64 = columns.iter().map(|column| column.phases.total()).sum();
    let of = |phase: Phase| columns.iter().map(|column| column.phases[phase]).sum::<f64>();
    let is_drawn = |phase: &Phase| of(*phase) > LEAST_PHASE * all;
    let drawn: Vec<_> = Phase::ALL.into_iter().filter(is_drawn).collect();
    let names: Vec<_> = drawn.iter().rev().map(|phase| phase.name()).collect();
    let listed = if names.is_empty() { "no sync".to_owned() } else { names.join(", ") };
    panel.caption(&format!("the mean sync by phase, from the top: {listed}"))?;
    let mut low = vec![0.0; columns.len()];
    for phase in drawn {
        let high: Vec<_> =
            low.iter().zip(columns).map(|(low, column)| low + mean(column, phase)).collect();
        let colour = colour(phase);
        let runs = runs(columns, |at| columns[at].syncs > 0);
        for run in &runs {
            panel.fill(area(columns, run, |at| low[at], |at| high[at]), colour, 0.85)?;
            panel.path(line(columns, run, |at| high[at]), MISSING, 0.9, 1)?;
        }
        name_area(&panel, columns, &runs, (&low, &high), phase.name())?;
        low = high;
    }
    Ok(())
}

/// Writes an area's name upon it where it is thickest, if there is room for it.
fn name_area(
    panel: &Panel<'_>,
    columns: &[Column],
    runs: &[Vec<usize>],
    (low, high): (&[f64], &[f64]),
    name: &str,
) -> io::Result<()> {
    let wide = 8.0 * name.len() as f64;
    let mut best: Option<(f64, (f64, f64))> = None;
    for run in runs {
        for (n, first) in run.iter().enumerate() {
            let (mut bottom, mut top) = (0.0_f64, f64::INFINITY);
            for at in &run[n..] {
                (bottom, top) = (bottom.max(low[*at]), top.min(high[*at]));
                let (from, to) = (columns[*first].from, columns[*at].to);
                if panel.width(to - from) >= wide {
                    let thick = panel.height(top) - panel.height(bottom);
                    if best.is_none_or(|(known, _)| thick > known) {
                        let middle = (f64::midpoint(from, to), f64::midpoint(bottom, top));
                        best = Some((thick, middle));
                    }
                    break;
                }
            }
        }
    }
    match best {
        Some((thick, middle)) if thick >= 13.0 => panel.say(middle, name, Side::Middle),
        _ => Ok(()),
    }
}

/// Draws the mean times of a request.
fn disk(chart: &Chart, zone: &Zone, sheet: &Sheet<'_>, room: [i32; 2]) -> io::Result<()> {
    let columns = &chart.columns;
    let device = |at: usize| columns[at].device_seconds.unwrap_or(0.0);
    let queue = |at: usize| columns[at].queue_seconds.unwrap_or(0.0);
    let most = (0..columns.len()).map(|at| device(at).max(queue(at))).fold(0.0, f64::max);
    let top = if most > 0.0 { most * 1.1 } else { 1e-3 };
    let panel = panel(chart, sheet, [0.0, top], room)?;
    panel.frame(Some(zone))?;
    levels(top).into_iter().try_for_each(|value| panel.level(value, &duration(value)))?;
    let name = if chart.disk.is_empty() { "its disk" } else { &chart.disk };
    let is_known =
        |column: &Column| column.device_seconds.is_some() || column.queue_seconds.is_some();
    panel.caption(&match columns.iter().any(is_known) {
        true => format!(
            "{name}: mean time of a request, all owners: at the device (thick), in the queue (thin)"
        ),
        false => format!("{name}: the recording has no times of its requests"),
    })?;
    for run in runs(columns, |at| columns[at].device_seconds.is_some()) {
        panel.path(line(columns, &run, device), DEVICE, 1.0, 3)?;
    }
    for run in runs(columns, |at| columns[at].queue_seconds.is_some()) {
        panel.path(line(columns, &run, queue), QUEUE, 1.0, 1)?;
    }
    Ok(())
}

/// The colour of a phase in all outputs.
fn colour(phase: Phase) -> RGBColor {
    let hex = u32::from_str_radix(phase.colour().hex.trim_start_matches('#'), 16).unwrap_or(0);
    let [_, red, green, blue] = hex.to_be_bytes();
    RGBColor(red, green, blue)
}
