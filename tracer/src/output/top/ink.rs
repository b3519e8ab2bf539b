//! Colours, where they are wanted.
//!
//! Colour is never the only carrier: each phase has its letter, the line of
//! what was dropped is in capitals, the selected line has its mark. So all
//! colours may be absent.

use ratatui::style::{Color, Style};
use tracer_snapshot::Phase;

/// Whether to use colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ink {
    Colour,
    Plain,
}

/// The colours that every terminal has, by number.
const COLOURS: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

impl Ink {
    /// Plain when the user set `NO_COLOR` (see <https://no-color.org>).
    pub fn from_env() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Colour,
        }
    }

    /// The style of a phase's letters in a bar.
    pub fn phase(self, phase: Phase) -> Style {
        let colour = COLOURS.get(usize::from(phase.colour().ansi)).copied().unwrap_or(Color::Reset);
        self.only(Style::new().fg(Color::Black).bg(colour))
    }

    /// The style of lines that must not be overlooked: what was dropped, what is unsupported.
    pub fn warning(self) -> Style {
        self.only(Style::new().fg(Color::Red)).bold()
    }

    /// The style of the culprit and its sentence.
    pub fn blame(self) -> Style {
        self.only(Style::new().fg(Color::Yellow)).bold()
    }

    /// The style of headings.
    pub fn heading(self) -> Style {
        Style::new().bold().underlined()
    }

    fn only(self, coloured: Style) -> Style {
        match self {
            Self::Colour => coloured,
            Self::Plain => Style::new(),
        }
    }
}
