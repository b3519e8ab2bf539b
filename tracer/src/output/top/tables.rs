//! The two tables: who waits, and who uses the selected one's disk.
//!
//! Widths are worked out here, not left to the layout, so that every cell is
//! cut where it can be marked as cut. Numbers keep their columns, names share
//! what is left.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Rect},
    style::Style,
    text::{Line, Span, Text},
    widgets::{Cell, Row, Table, TableState},
};

use super::{ink::Ink, state::View};
use crate::output::{
    escape::{bounded, bounded_tail},
    names, phases,
    text::blame_share,
    units::{bytes_rate, duration, percent, rate},
    verdict,
};
use tracer_snapshot::{Disk, OwnerRow, Phase, Phases, Snapshot, Victim};

/// Terminals at least this wide get the culprit's name in the table.
const WIDE: u16 = 100;

/// No name is wider; what is left stays empty, so that lines can be followed.
const NAME: u16 = names::ACTOR_COLUMNS as u16;

/// Marks the selected row.
const MARK: &str = ">";

/// Widths of the columns that differ between narrow and wide terminals.
struct Widths {
    actor: u16,
    device: u16,
    bar: u16,
    culprit: u16,
}

impl Widths {
    fn of(columns: u16) -> Self {
        // The mark, the columns that never change, and the spaces between.
        let fixed = 1 + 5 + 6 + 7 + 7 + 7 + 8;
        let left = columns.saturating_sub(fixed);
        if columns < WIDE {
            let (device, bar, culprit) = (9, 8, 6);
            let actor = left.saturating_sub(device + bar + culprit);
            return Self { actor, device, bar, culprit };
        }
        let (device, bar) = (12, 12);
        let names = left.saturating_sub(device + bar);
        let actor = (names * 2 / 5).min(NAME);
        Self { actor, device, bar, culprit: names - actor }
    }
}

/// The victims, with the selected one marked.
pub fn draw_victims(frame: &mut Frame<'_>, area: Rect, view: &View, s: &Snapshot, ink: Ink) {
    let rows = view.rows(s);
    if rows.is_empty() {
        let why = if s.victims.is_empty() {
            "no syncs seen yet".to_owned()
        } else {
            format!("nobody matches `{}` (Esc shows all)", bounded(&view.filter, 40))
        };
        frame.render_widget(Line::from(bounded(&why, area.width.into())), area);
        return;
    }
    let selected = view.selected_row(&rows);
    let widths = Widths::of(area.width);
    let culprit = if area.width < WIDE { "blame" } else { "culprit" };
    let header = Row::new([
        Text::from("who waits"),
        Text::from("file"),
        Text::from("device"),
        right("sync/s".to_owned()),
        right("p50".to_owned()),
        right("p99".to_owned()),
        right("max".to_owned()),
        Text::from("phases"),
        Text::from(culprit),
    ]);
    let lines = rows.iter().map(|victim| victim_row(victim, &widths, area.width, ink));
    let columns = [widths.actor, 5, widths.device, 6, 7, 7, 7, widths.bar, widths.culprit];
    let table = Table::new(lines, columns.map(Constraint::Length))
        .header(header.style(ink.heading()))
        .highlight_symbol(MARK)
        .row_highlight_style(Style::new().bold());
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(selected));
}

fn victim_row(victim: &Victim, widths: &Widths, columns: u16, ink: Ink) -> Row<'static> {
    let culprit = if columns < WIDE { verdict::word(victim) } else { verdict::phrase(victim) };
    Row::new([
        Cell::from(cut(&names::actor(&victim.actor), widths.actor)),
        Cell::from(names::class(victim.class)),
        Cell::from(bounded_tail(&victim.device, widths.device.into()).into_owned()),
        Cell::from(right(rate(victim.syncs_per_second))),
        Cell::from(right(duration(victim.p50_seconds))),
        Cell::from(right(duration(victim.p99_seconds))),
        Cell::from(right(duration(victim.max_seconds))),
        Cell::from(bar(&victim.phases, widths.bar, ink)),
        Cell::from(cut(&culprit, widths.culprit)),
    ])
}

/// A bar in which each phase has as many of its letters as its share.
fn bar(phases: &Phases, columns: u16, ink: Ink) -> Line<'static> {
    let cells = phases::cells(phases, columns.into());
    let spans = Phase::ALL.into_iter().zip(cells).map(|(phase, cells)| {
        Span::styled(phase.letter().to_string().repeat(cells), ink.phase(phase))
    });
    Line::from_iter(spans)
}

/// The legend of the bars' letters, within 80 columns.
pub fn legend(ink: Ink) -> Line<'static> {
    let mut spans = Vec::new();
    for phase in Phase::ALL {
        let gap = if spans.is_empty() { "" } else { "  " };
        spans.push(Span::raw(gap));
        spans.push(Span::styled(phase.letter().to_string(), ink.phase(phase)));
        spans.push(Span::raw(format!(" {}", phase.short())));
    }
    Line::from(spans)
}

/// The owners on the victim's disk: those it blames first, then the busiest.
pub fn draw_owners(frame: &mut Frame<'_>, area: Rect, victim: &Victim, disk: &Disk, ink: Ink) {
    let [op, iops, bytes, in_flight, blame] = [12, 6, 9, 9, 5];
    let fixed = op + iops + bytes + in_flight + blame + 5;
    let owner = area.width.saturating_sub(fixed).min(NAME);
    let title = format!("owner on {} ({} in flight)", names::disk(disk, 44), disk.in_flight);
    let header = Row::new([
        Text::from(cut(&title, owner)),
        Text::from("op"),
        right("IOPS".to_owned()),
        right("bytes".to_owned()),
        right("in flight".to_owned()),
        right("blame".to_owned()),
    ]);
    let rows = ranked(victim, disk).into_iter().map(|(actor, op, row, share)| {
        let number = |shown: fn(f64) -> String, of: fn(&OwnerRow) -> f64| {
            right(row.map_or_else(|| "-".to_owned(), |row| shown(of(row))))
        };
        let line = Row::new([
            Text::from(cut(&actor, owner)),
            Text::from(op),
            number(rate, |row| row.requests_per_second),
            number(bytes_rate, |row| row.bytes_per_second),
            number(rate, |row| row.in_flight),
            right(share.map_or_else(String::new, percent)),
        ]);
        if share.is_some() { line.style(ink.blame()) } else { line }
    });
    let columns = [owner, op, iops, bytes, in_flight, blame];
    let table =
        Table::new(rows, columns.map(Constraint::Length)).header(header.style(ink.heading()));
    frame.render_widget(table, area);
}

/// Name, operation, what it does now, and its blame.
type Ranked<'a> = (String, &'static str, Option<&'a OwnerRow>, Option<f64>);

fn ranked<'a>(victim: &Victim, disk: &'a Disk) -> Vec<Ranked<'a>> {
    let mut ranked: Vec<Ranked<'a>> = disk
        .owners
        .iter()
        .map(|row| (names::actor(&row.actor), row.op.name(), Some(row), blame_share(victim, row)))
        .collect();
    // Blame reaches further back than the rows do: its owner may have stopped.
    for one in &victim.verdict.culprits {
        let is_here = |row: &OwnerRow| row.op == one.op && names::is_same(&row.actor, &one.actor);
        if !disk.owners.iter().any(is_here) {
            ranked.push((names::actor(&one.actor), one.op.name(), None, Some(one.share)));
        }
    }
    let key = |share: Option<f64>| share.unwrap_or(f64::NEG_INFINITY);
    ranked.sort_by(|a, b| key(b.3).total_cmp(&key(a.3)));
    ranked
}

fn cut(text: &str, columns: u16) -> String {
    bounded(text, columns.into()).into_owned()
}

fn right(text: String) -> Text<'static> {
    Text::from(text).alignment(Alignment::Right)
}
