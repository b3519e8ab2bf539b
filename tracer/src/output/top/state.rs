//! The view that the user has chosen, as a pure state machine: keys in, a view out.
//!
//! It draws nothing and remembers no snapshot. While the view is paused, the
//! caller goes on showing the snapshot that it has.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::names;
use tracer_snapshot::{Snapshot, Victim};

/// Nobody types a longer filter on purpose.
const FILTER_CHARS: usize = 64;

/// The order of the victims.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sort {
    /// Most sync time first, which is the snapshot's own order.
    #[default]
    Time,
    P99,
    Rate,
    Name,
}

impl Sort {
    /// How the header calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "sync time",
            Self::P99 => "p99",
            Self::Rate => "syncs/s",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Time => Self::P99,
            Self::P99 => Self::Rate,
            Self::Rate => Self::Name,
            Self::Name => Self::Time,
        }
    }
}

/// The action that a key asks of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Continue,
    Quit,
}

/// The part of a snapshot that is shown, and its order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct View {
    /// Replaces the kernel in the header, such as by a demo's act.
    pub title: Option<String>,
    pub sort: Sort,
    /// [`Victim::id`] of the selected one; the first row where there is none.
    pub selected: Option<u32>,
    pub paused: bool,
    pub help: bool,
    /// Only victims that contain this are shown; empty for all.
    pub filter: String,
    /// The filter as it is being typed.
    pub prompt: Option<String>,
}

impl View {
    /// Takes one key. `shown` is the snapshot that the user sees.
    pub fn key(&mut self, key: KeyEvent, shown: &Snapshot) -> Action {
        if key.is_release() {
            return Action::Continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        if self.prompt.is_some() {
            self.type_filter(key.code, control);
            return Action::Continue;
        }
        if self.help {
            // Whoever leaves the help does not mean to leave the program.
            self.help = false;
            return Action::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Action::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.select(shown, -1),
            KeyCode::Down | KeyCode::Char('j') => self.select(shown, 1),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.prompt = Some(self.filter.clone()),
            KeyCode::Char('?' | 'h') => self.help = true,
            _ => {}
        }
        Action::Continue
    }

    /// The victims to show, in their order.
    pub fn rows<'a>(&self, shown: &'a Snapshot) -> Vec<&'a Victim> {
        let filter = self.filter.to_lowercase();
        let is_shown = |v: &&Victim| names::matches(&filter, &v.actor, v.class, &v.path, &v.device);
        let mut rows: Vec<_> = shown.victims.iter().filter(is_shown).collect();
        // Stable sorts, so that equals keep the snapshot's order.
        match self.sort {
            Sort::Time => {}
            Sort::P99 => rows.sort_by(|a, b| b.p99_seconds.total_cmp(&a.p99_seconds)),
            Sort::Rate => rows.sort_by(|a, b| b.syncs_per_second.total_cmp(&a.syncs_per_second)),
            Sort::Name => rows.sort_by_cached_key(|victim| names::actor(&victim.actor)),
        }
        rows
    }

    /// The index of the selected row: the first when the selected victim is
    /// not among them; `None` only when there are no rows.
    pub fn selected_row(&self, rows: &[&Victim]) -> Option<usize> {
        let found = rows.iter().position(|victim| Some(victim.id) == self.selected);
        found.or(if rows.is_empty() { None } else { Some(0) })
    }

    fn select(&mut self, shown: &Snapshot, by: isize) {
        let rows = self.rows(shown);
        if let Some(row) = self.selected_row(&rows) {
            let row = row.saturating_add_signed(by).min(rows.len() - 1);
            self.selected = Some(rows[row].id);
        }
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) {
        let Some(typed) = &mut self.prompt else { return };
        match code {
            KeyCode::Enter => self.filter = self.prompt.take().unwrap_or_default(),
            KeyCode::Esc => {
                self.prompt = None;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Char(c) if !control && typed.chars().count() < FILTER_CHARS => typed.push(c),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
