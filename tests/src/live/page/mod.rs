//! The agent's page, as a person sees it in a browser.

/// A browser without a window.
mod browser;

/// The page of `tracer report`.
mod report;

use std::{
    cell::RefCell,
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use tracer_disk_model::Model;
use tracer_lab::{cgroup::Cgroup, disk::Filesystem, process::Process};

use super::{
    lab_disk, need_live,
    scenarios::{
        culprits::{make_due, trim},
        need_stage, play,
        stage::cgroup,
    },
    served::{Agent, free_address},
};
use crate::{
    simulated::{SimulatedDisk, parts::Part},
    skip::skip,
    subject::{Tracer, tracer_bin},
};
use browser::Browser;

const SECOND: Duration = Duration::from_secs(1);

/// Skips unless there is a browser.
macro_rules! need_browser {
    () => {
        match Browser::start() {
            Some(browser) => browser,
            None => skip!("`chromium-headless-shell` is not installed"),
        }
    };
}

use need_browser;

fn config(node: &str) -> tempfile::NamedTempFile {
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(&config, format!("period = \"2s\"\nnode = \"{node}\"\n")).unwrap();
    config
}

#[track_caller]
fn has_no_faults(browser: &Browser) {
    assert!(browser.faults().is_empty(), "{:?}", browser.faults());
}

#[test]
fn the_culprit_appears_on_the_page_while_it_is_at_work() {
    need_stage!();
    let browser = RefCell::new(need_browser!());
    play(Filesystem::Ext4, |stage| {
        let mut browser = browser.borrow_mut();
        let config = config("node-under-test");
        let agent = Agent::start(config.path());
        // These are undisturbed syncs, for comparison.
        thread::sleep(6 * SECOND);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let trimmer = cgroup("trimmer");
                let end = Instant::now() + 30 * SECOND;
                while !is_over.load(Relaxed) && Instant::now() < end {
                    make_due(stage.disk.mountpoint()).unwrap();
                    trim(stage.disk.mountpoint(), &trimmer).unwrap();
                }
            });
            browser.open(&format!("http://{}/", agent.address));
            // The text of those who are ruled out has no dash.
            let is_blamed = |text: &str| text.contains("/trimmer) discard — ");
            let text = browser.wait_for_text("victims", is_blamed);
            println!("{text}");
            assert!(text.contains("etcd") && text.contains("wal on loop"), "{text}");
            is_over.store(true, Relaxed);
        });
        browser.wait_for_text("node", |text| text == "node-under-test");
        browser.wait_for_text("syncs", |text| text.contains("wal"));
        has_no_faults(&browser);
    });
}

#[test]
fn a_sync_that_has_not_ended_is_on_the_page_while_it_lasts() {
    need_live!();
    let mut browser = need_browser!();
    let simulated = SimulatedDisk::create(Filesystem::Xfs).unwrap();
    let mut file = fs::File::create(simulated.disk().mountpoint().join("0.wal")).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file.sync_all().unwrap();
    let config = config("node");
    let agent = Agent::start(config.path());
    browser.open(&format!("http://{}/", agent.address));
    browser.wait_for_text("node", |text| text == "node");
    assert_eq!(browser.text("hanging"), "");
    simulated.become_another(&Model { write: 14 * SECOND, ..Model::default() }).unwrap();
    file.write_all(&[2; 4096]).unwrap();
    let sync = thread::spawn(move || file.sync_data().unwrap());
    let said = browser.wait_for_text("hanging", |text| text.contains("has been in fdatasync of"));
    assert!(said.contains(simulated.disk().name()) && said.contains("in flight"), "{said}");
    simulated.become_another(&Model::default()).unwrap();
    sync.join().unwrap();
    browser.wait_for_text("hanging", str::is_empty);
    has_no_faults(&browser);
}

/// Starts a process that syncs a file, as soon as it exists.
fn start_syncer(name: &str, file: &Path, cgroup: &Cgroup) -> Process {
    Part::Syncer { file: file.to_owned(), per_second: 50 }.start(name, cgroup).unwrap()
}

#[test]
fn names_that_are_markup_are_text_and_run_nothing() {
    const COMM: &str = "<script>";
    const FILE: &str = "<img src=x onerror=window.ran=1>";
    need_live!();
    let mut browser = need_browser!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = Cgroup::create("<b onclick=x>").unwrap();
    let _syncer = start_syncer(COMM, &disk.mountpoint().join(FILE), &cgroup);
    let config = config("<i>node</i>");
    fs::write(&config, "period = \"2s\"\nnode = \"<i>node</i>\"\nmin-sync = \"1us\"\n").unwrap();
    let agent = Agent::start(config.path());

    browser.open(&format!("http://{}/", agent.address));
    for id in ["victims", "syncs"] {
        browser.wait_for_text(id, |text| text.contains(COMM) && text.contains(FILE));
    }
    browser.wait_for_text("node", |text| text == "<i>node</i>");
    let count = |browser: &mut Browser, of: &str| {
        browser.evaluate(&format!("document.querySelectorAll('{of}').length"))
    };
    assert_eq!(count(&mut browser, "script"), 1, "the page's own");
    assert_eq!(count(&mut browser, "img, i, [onclick], [onerror]"), 0);
    assert_eq!(browser.evaluate("typeof window.ran"), "undefined");
    has_no_faults(&browser);
    // To be sure: even markup in the page would not run anything.
    browser.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.ran=1>')",
    );
    thread::sleep(SECOND);
    assert_eq!(browser.evaluate("typeof window.ran"), "undefined");
}

#[test]
fn what_happened_is_asked_on_the_page_and_its_report_is_shown() {
    need_live!();
    let mut browser = need_browser!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = Cgroup::create("syncer").unwrap();
    let _syncer = start_syncer("syncer", &disk.mountpoint().join("0.wal"), &cgroup);
    let [folder, socket] = ["recording", "agent.sock"]
        .map(|name| disk.mountpoint().join(name).to_str().unwrap().to_owned());
    let address = free_address();
    let listen = address.to_string();
    let args = ["agent", "--listen", &listen, "--record", &folder, "--socket", &socket];
    let agent = Agent::until_ready(Tracer::start(&args), address);
    agent.tracer.wait_for(30 * SECOND, "records into");
    thread::sleep(3 * SECOND);
    let mark = ["mark", "changed <b>it</b>", "--socket", &socket];
    let marked = Command::new(tracer_bin()).args(mark).status().unwrap();
    assert!(marked.success());
    thread::sleep(5 * SECOND);

    browser.open(&format!("http://{address}/"));
    browser.wait_for_text("last", |text| text.contains("15 min"));
    assert_eq!(browser.text("events"), "", "nothing is asked by itself");
    browser.evaluate("document.querySelector('#last button').click()");
    let says = browser.wait_for_text("events", |text| text.contains("changed <b>it</b> [uid 0]"));
    println!("{says}");
    let asked = browser.text("asked");
    assert!(asked.contains(" event") && asked.contains("the recording begins"), "{asked}");
    let hash = browser.evaluate("location.hash");
    assert!(hash.as_str().unwrap().starts_with("#from="), "{hash}");
    for button in ["#draw", "#when button", "#events button", "#last button"] {
        let kind = format!("document.querySelector('{button}').tabIndex");
        assert_eq!(browser.evaluate(&kind), 0, "{button} is reached by the keyboard");
    }
    browser.evaluate("document.getElementById('draw').click()");
    // The frame keeps its page to itself; what is in it is asked again.
    let frame = "document.querySelector('iframe').getAttribute('src')";
    let report = browser.evaluate(frame).as_str().unwrap().to_owned();
    let (_, page) = agent.get(&report, "");
    assert!(page.contains("<svg role=\"img\"") && page.contains("changed &lt;b&gt;it"), "{page}");
    thread::sleep(3 * SECOND);
    browser.emulate("setDeviceMetricsOverride", report::phone());
    let width = browser.evaluate("document.documentElement.scrollWidth").as_f64().unwrap();
    assert!(width <= 390.0, "{width}: the page is wider than a phone");
    has_no_faults(&browser);
}

#[test]
fn an_open_page_says_that_the_agent_is_away_and_goes_on_with_the_next() {
    need_live!();
    let mut browser = need_browser!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = Cgroup::create("syncer").unwrap();
    let _syncer = start_syncer("syncer", &disk.mountpoint().join("synced"), &cgroup);
    let before = config("before");
    let mut agent = Agent::start(before.path());
    browser.open(&format!("http://{}/", agent.address));
    browser.wait_for_text("victims", |text| text.contains("syncer"));
    browser.wait_for_text("state", str::is_empty);

    agent.tracer.kill();
    agent.tracer.wait(10 * SECOND);
    browser.wait_for_text("state", |text| text.starts_with("the agent has not answered since"));
    // The last snapshot stays on the page.
    assert!(browser.text("victims").contains("syncer"));

    let after = config("after");
    let _agent = Agent::start_at(agent.address, after.path());
    browser.wait_for_text("state", str::is_empty);
    assert_eq!(browser.text("node"), "after");
    browser.wait_for_text("victims", |text| text.contains("syncer"));
    has_no_faults(&browser);
}
