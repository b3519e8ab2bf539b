use super::*;
use crate::output::fixture;
use ratatui::crossterm::event::KeyEventKind;

fn code(view: &mut View, code: KeyCode) -> Action {
    view.key(KeyEvent::new(code, KeyModifiers::NONE), &fixture::trimmed())
}

/// Presses these keys one after the other; none may quit.
fn press(view: &mut View, keys: &str) {
    for key in keys.chars() {
        assert_eq!(code(view, KeyCode::Char(key)), Action::Continue, "{key}");
    }
}

fn pressed(keys: &str) -> View {
    let mut view = View::default();
    press(&mut view, keys);
    view
}

fn ids(view: &View) -> Vec<u32> {
    view.rows(&fixture::trimmed()).iter().map(|victim| victim.id).collect()
}

fn selected(view: &View, s: &Snapshot) -> Option<u32> {
    let rows = view.rows(s);
    view.selected_row(&rows).map(|row| rows[row].id)
}

#[test]
fn q_escape_and_control_c_quit() {
    assert_eq!(code(&mut View::default(), KeyCode::Char('q')), Action::Quit);
    assert_eq!(code(&mut View::default(), KeyCode::Esc), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for mut view in [View::default(), pressed("/c"), pressed("?")] {
        assert_eq!(view.key(control_c, &fixture::empty()), Action::Quit);
    }
    assert_eq!(pressed("c"), View::default());
}

#[test]
fn arrows_and_j_k_move_and_stop_at_the_ends() {
    let mut view = View::default();
    let mut after = |key| {
        code(&mut view, key);
        view.selected
    };
    assert_eq!(after(KeyCode::Down), Some(8));
    assert_eq!(after(KeyCode::Char('j')), Some(9));
    assert_eq!(after(KeyCode::Down), Some(9));
    assert_eq!(after(KeyCode::Up), Some(8));
    assert_eq!(after(KeyCode::Char('k')), Some(7));
    assert_eq!(after(KeyCode::Up), Some(7));
}

#[test]
fn moving_where_there_is_nothing_selects_nothing() {
    let mut view = View::default();
    view.key(KeyEvent::from(KeyCode::Down), &fixture::empty());
    assert_eq!(view, View::default());
}

#[test]
fn s_goes_through_the_orders() {
    assert_eq!(ids(&pressed("")), [7, 8, 9]);
    assert_eq!(ids(&pressed("s")), [9, 7, 8]);
    assert_eq!(ids(&pressed("ss")), [7, 8, 9]);
    assert_eq!(pressed("ss").sort, Sort::Rate);
    assert_eq!(ids(&pressed("sss")), [7, 8, 9]);
    assert_eq!(pressed("sss").sort, Sort::Name);
    assert_eq!(pressed("ssss"), View::default());
}

#[test]
fn p_and_space_pause_and_go_on() {
    assert!(pressed("p").paused);
    assert!(pressed(" ").paused);
    assert!(!pressed("p ").paused);
}

#[test]
fn any_key_leaves_the_help_and_does_nothing_else() {
    for key in ["?", "h"] {
        let mut view = pressed(key);
        assert!(view.help);
        assert_eq!(code(&mut view, KeyCode::Esc), Action::Continue);
        assert_eq!(view, View::default());
    }
    assert_eq!(pressed("?q"), View::default());
}

#[test]
fn a_filter_holds_from_enter_on() {
    let mut view = pressed("/WAX");
    assert_eq!(ids(&view), [7, 8, 9]);
    code(&mut view, KeyCode::Backspace);
    press(&mut view, "l");
    code(&mut view, KeyCode::Enter);
    assert_eq!((view.filter.as_str(), &view.prompt), ("WAl", &None));
    assert_eq!(ids(&view), [7]);
}

#[test]
fn a_filter_looks_at_who_path_device_and_class() {
    for (filter, found) in [
        ("journald", &[9][..]),
        ("etcd.service", &[7, 8]),
        ("/member/snap", &[8]),
        ("NVME", &[9]),
        ("other", &[9]),
        ("nobody", &[]),
    ] {
        assert_eq!(ids(&View { filter: filter.into(), ..View::default() }), found, "{filter}");
    }
}

#[test]
fn escape_clears_the_filter_before_it_quits() {
    let mut view = pressed("/wal");
    code(&mut view, KeyCode::Esc);
    assert_eq!(view, View::default());

    press(&mut view, "/wal");
    code(&mut view, KeyCode::Enter);
    assert_eq!(code(&mut view, KeyCode::Esc), Action::Continue);
    assert_eq!(view, View::default());
    assert_eq!(code(&mut view, KeyCode::Esc), Action::Quit);
}

#[test]
fn keys_are_text_while_a_filter_is_typed() {
    let mut view = pressed("/qjksp ?h/");
    assert_eq!(view.prompt.as_deref(), Some("qjksp ?h/"));
    let control_u = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    view.key(control_u, &fixture::empty());
    assert_eq!(view.prompt.as_deref(), Some("qjksp ?h/"));
    press(&mut view, &"x".repeat(100));
    assert_eq!(view.prompt.unwrap().chars().count(), FILTER_CHARS);
}

#[test]
fn a_slash_edits_the_filter_that_is_there() {
    let mut view = View { filter: "wal".into(), ..View::default() };
    press(&mut view, "/");
    assert_eq!(view.prompt.as_deref(), Some("wal"));
}

#[test]
fn the_selection_sticks_to_its_victim() {
    let view = pressed("j");
    let mut s = fixture::trimmed();
    assert_eq!(selected(&view, &s), Some(8));
    s.victims.rotate_left(1);
    assert_eq!(selected(&view, &s), Some(8));
    // Gone for a while: the first stands in, and it is found again.
    let gone = s.victims.remove(0);
    assert_eq!(selected(&view, &s), Some(9));
    s.victims.push(gone);
    assert_eq!(selected(&view, &s), Some(8));
    assert_eq!(selected(&view, &fixture::empty()), None);
}

/// Some terminals report that a key was let go; that is no second press.
#[test]
fn a_released_key_does_nothing() {
    let mut view = View::default();
    let release =
        |code| KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::new(code, KeyModifiers::NONE) };
    assert_eq!(view.key(release(KeyCode::Char('q')), &fixture::empty()), Action::Continue);
    view.key(release(KeyCode::Char('p')), &fixture::empty());
    assert_eq!(view, View::default());
}

#[test]
fn unknown_keys_do_nothing() {
    let mut view = View::default();
    for key in [KeyCode::Tab, KeyCode::F(1), KeyCode::Char('\u{1b}'), KeyCode::Null] {
        assert_eq!(code(&mut view, key), Action::Continue);
    }
    assert_eq!(view, View::default());
}
