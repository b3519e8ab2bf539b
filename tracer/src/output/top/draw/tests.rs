use super::*;
use crate::output::{escape::is_plain, fixture};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

fn screen(columns: u16, rows: u16, view: &View, s: &Snapshot, ink: Ink) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, view, s, ink)).unwrap();
    terminal.backend().clone()
}

fn buffer(view: &View, s: &Snapshot, ink: Ink) -> Buffer {
    screen(80, 24, view, s, ink).buffer().clone()
}

#[track_caller]
fn check(name: &str, view: &View, s: &Snapshot) {
    for (columns, rows) in [(80, 24), (120, 40)] {
        let screen = screen(columns, rows, view, s, Ink::Plain);
        insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), screen);
    }
}

#[test]
fn a_trimmed_disk() {
    check("trimmed", &View::default(), &fixture::trimmed());
}

#[test]
fn nothing_seen_yet() {
    check("empty", &View::default(), &fixture::empty());
}

#[test]
fn hooks_that_are_unproven_are_said_in_the_first_line() {
    let mut s = fixture::trimmed();
    s.kernel.unproven = Some("the disk of the self-test (sdb, /var/lib) has not answered".into());
    let screen = buffer(&View::default(), &s, Ink::Plain);
    let first: String = screen.content()[..80].iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(first.starts_with("unproven: the disk of the self-test (sdb, /var/lib)"), "{first}");
}

#[test]
fn hostile_names() {
    check("hostile", &View::default(), &fixture::hostile());
}

#[test]
fn more_than_fits() {
    check("crowd", &View { selected: Some(30), ..View::default() }, &fixture::crowd());
}

#[test]
fn the_help() {
    check("help", &View { help: true, ..View::default() }, &fixture::trimmed());
}

#[test]
fn filtered_and_paused() {
    let filter = "journal".to_owned();
    let view = View { filter, paused: true, ..View::default() };
    check("filtered", &view, &fixture::trimmed());
}

#[test]
fn a_filter_being_typed() {
    let view = View { prompt: Some("wal\u{202e}".into()), ..View::default() };
    let screen = screen(80, 24, &view, &fixture::trimmed(), Ink::Plain).to_string();
    assert!(screen.contains("filter: wal\\u{202e}_"), "{screen}");
}

#[test]
fn a_filter_that_nobody_matches() {
    let view = View { filter: "no such thing".into(), ..View::default() };
    let screen = screen(80, 24, &view, &fixture::trimmed(), Ink::Plain).to_string();
    assert!(screen.contains("nobody matches `no such thing` (Esc shows all)"), "{screen}");
}

#[test]
fn no_cell_holds_a_control_character() {
    let view = View { filter: "\x1b".into(), prompt: Some("\n\x1b[".into()), ..View::default() };
    for view in [View::default(), view] {
        for cell in buffer(&view, &fixture::hostile(), Ink::Colour).content() {
            assert!(cell.symbol().chars().all(is_plain), "{cell:?}");
        }
    }
}

#[test]
fn colour_says_nothing_that_letters_do_not() {
    let s = fixture::hostile();
    let plain = buffer(&View::default(), &s, Ink::Plain);
    let coloured = buffer(&View::default(), &s, Ink::Colour);
    let symbols = |buffer: &Buffer| -> Vec<String> {
        buffer.content().iter().map(|cell| cell.symbol().to_owned()).collect()
    };
    assert_eq!(symbols(&plain), symbols(&coloured));
    let is_coloured = |buffer: &Buffer| {
        buffer.content().iter().any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset))
    };
    assert!(!is_coloured(&plain));
    assert!(is_coloured(&coloured));
}

/// Somebody stopped, but the window still blames it.
#[test]
fn a_culprit_that_stopped_is_still_listed() {
    let mut s = fixture::trimmed();
    s.disks[0].owners.remove(0);
    let screen = screen(80, 24, &View::default(), &s, Ink::Plain).to_string();
    let line = screen.lines().find(|line| line.contains("fstrim") && line.contains("discard  "));
    assert!(line.is_some_and(|line| line.contains(" - ") && line.contains("83%")), "{screen}");
}

#[test]
fn a_victim_on_an_unknown_disk_is_drawn() {
    let mut s = fixture::trimmed();
    for disk in [None, Some(99)] {
        s.victims[0].disk = disk;
        let screen = screen(80, 24, &View::default(), &s, Ink::Plain).to_string();
        assert!(screen.contains("its disk is not known"), "{screen}");
    }
}

#[test]
fn every_size_can_be_drawn() {
    for view in [View::default(), View { help: true, ..View::default() }] {
        for columns in [1, 2, 7, 20, 40, 60, 79, 99, 100, 300] {
            for rows in [1, 2, 5, 9, 14, 60] {
                screen(columns, rows, &view, &fixture::hostile(), Ink::Colour);
            }
        }
    }
}
