//! Turns a view and a snapshot into one screen.
//!
//! From top to bottom: what the numbers rest on, who waits, why the selected
//! one waits, who uses its disk, the keys. Everything is cut to the screen
//! here; small screens lose lines from the bottom, never their meaning.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

use super::{
    ink::Ink,
    state::View,
    tables::{draw_owners, draw_victims, legend},
};
use crate::{
    filter,
    output::{
        escape::{bounded, bounded_tail},
        freeze, hanging, names,
        text::{dropped, unproven, unsupported},
        units::{reference, span},
        verdict,
    },
};
use tracer_snapshot::{Phase, Snapshot, Victim};

const KEYS: [&str; 6] = [
    "up, k / down, j   select who waits",
    "s                 sort: sync time, p99, syncs/s, name",
    "/                 filter: Enter applies, Esc clears",
    "p, space          pause, go on",
    "?, h              this help",
    "q, Esc, Ctrl-C    quit",
];

/// The keys, then what the phases mean.
fn help() -> Vec<String> {
    let keys = KEYS.map(str::to_owned);
    let phases = Phase::ALL.map(|phase| format!("{:<10}{}", phase.name(), phase.help()));
    let blame =
        "blame     The share of the excess: the wait beyond the victim's baseline.".to_owned();
    let blank = || [String::new()];
    keys.into_iter().chain(blank()).chain(phases).chain(blank()).chain([blame]).collect()
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, view: &View, s: &Snapshot, ink: Ink) {
    let rows = view.rows(s);
    let victim = view.selected_row(&rows).map(|row| rows[row]);
    let header = header(view, s, ink, frame.area().width.into());
    let why = victim.map(|victim| why(victim, ink, frame.area().width.into())).unwrap_or_default();

    // The victims get what they need, up to half of what is left over.
    let fixed = header.len() + why.len() + 2;
    let left = usize::from(frame.area().height).saturating_sub(fixed);
    let victims = (rows.len().max(1) + 1).min(left.div_ceil(2).max(2));
    let [header_area, victims_area, legend_area, why_area, owners_area, footer_area] =
        frame.area().layout(&Layout::vertical([
            Constraint::Length(lines(header.len())),
            Constraint::Length(lines(victims)),
            Constraint::Length(1),
            Constraint::Length(lines(why.len())),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]));

    frame.render_widget(Paragraph::new(header), header_area);
    draw_victims(frame, victims_area, view, s, ink);
    frame.render_widget(legend(ink), legend_area);
    frame.render_widget(Paragraph::new(why), why_area);
    if let Some(victim) = victim {
        match victim.disk.and_then(|disk| s.disks.get(disk)) {
            Some(disk) => draw_owners(frame, owners_area, victim, disk, ink),
            None => frame.render_widget("its disk is not known", owners_area),
        }
    }
    draw_footer(frame, footer_area, view);
    if view.help {
        draw_help(frame);
    }
}

/// The header: always one line with the kernel and the window, then one each for hooks
/// that are unproven (the first), for what was dropped and for what is unsupported.
fn header(view: &View, s: &Snapshot, ink: Ink, columns: usize) -> Vec<Line<'static>> {
    let cut = |text: &str| bounded(text, columns).into_owned();
    let dropped = dropped(&s.dropped);
    let none = s.dropped.counters.iter().all(|(_, count)| *count == 0);
    let mut first = match &view.title {
        Some(title) => format!("tracer {}", bounded(title, 48)),
        None => format!("tracer {}", bounded(&s.kernel.release, 24)),
    };
    if none {
        first += &format!("  {dropped}");
    }
    if view.paused {
        first += "  PAUSED";
    }
    first += &format!("  watched {}  sorted by {}", span(s.watched_seconds), view.sort.name());
    if let Some(reference) = reference(s.reference_at) {
        first += &format!("  {reference}");
    }
    if !view.filter.is_empty() {
        first += &format!("  only `{}`", bounded(&view.filter, 16));
    }
    let unproven = unproven(s).map(|unproven| Line::styled(cut(&unproven), ink.warning()));
    let mut header: Vec<_> = unproven.into_iter().collect();
    header.push(Line::styled(cut(&first), Style::new().bold()));
    if let Some(left_out) = filter::line(s) {
        header.push(Line::from(cut(&left_out)));
    }
    for line in hanging::lines(s).into_iter().chain(freeze::lines(s)) {
        header.push(Line::styled(cut(&line), ink.warning()));
    }
    if !none {
        header.push(Line::styled(cut(&dropped), ink.warning()));
    }
    if let Some(unsupported) = unsupported(s) {
        header.push(Line::styled(cut(&unsupported), ink.warning()));
    }
    header
}

/// The selected victim's name, and its verdict.
fn why(victim: &Victim, ink: Ink, columns: usize) -> Vec<Line<'static>> {
    let cut = |text: &str| bounded(text, columns).into_owned();
    let split = verdict::split(victim).unwrap_or_default();
    vec![
        Line::styled(names::victim(victim, columns), Style::new().bold()),
        Line::styled(cut(&verdict::sentence(victim)), ink.blame()),
        Line::from(cut(&split)),
    ]
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let columns = usize::from(area.width);
    let footer = match &view.prompt {
        // The end of what is typed is what the user looks at.
        Some(typed) => {
            format!("filter: {}_", bounded_tail(typed, columns.saturating_sub(9)))
        }
        None => "q quit  j/k select  s sort  / filter  p pause  ? help".to_owned(),
    };
    frame.render_widget(Line::from(bounded(&footer, columns)), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let help = help();
    let columns = help.iter().map(String::len).max().unwrap_or(0);
    let area = frame.area().centered(
        Constraint::Length(lines(columns + 4)),
        Constraint::Length(lines(help.len() + 2)),
    );
    let text: Vec<_> = help.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(text).block(Block::bordered().title(" help: any key closes it ")),
        area,
    );
}

/// A number of lines as the layout wants it; no screen has more.
fn lines(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
