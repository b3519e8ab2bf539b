//! The page that `tracer report` writes, as a person sees it in a browser.

use std::{fs, process::Command};

use serde_json::json;

use super::{browser::Browser, has_no_faults, need_browser};
use crate::{skip::skip, subject::tracer_bin};

/// 13 seconds of a log under `fstrim`.
const FSTRIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fstrim.rec");

/// True if each text of each plot lies within it.
const FITS: &str = "[...document.querySelectorAll('svg text')].every((text) => { \
                    const a = text.getBoundingClientRect(), \
                    b = text.ownerSVGElement.getBoundingClientRect(); \
                    return a.left >= b.left - 1 && a.right <= b.right + 1 && \
                    a.top >= b.top - 1 && a.bottom <= b.bottom + 1; })";

#[test]
fn the_plots_of_a_report_can_be_read_and_names_in_them_are_text() {
    let mut browser = need_browser!();
    let lines = Command::new("zcat").arg(FSTRIM).output().unwrap();
    let lines = String::from_utf8(lines.stdout).unwrap();
    let hostile = lines.replace("\"comm\":\"fstrim\"", "\"comm\":\"<b>fstrim\"");
    assert_ne!(hostile, lines);
    let place = tempfile::tempdir().unwrap();
    let [recording, page] = ["hostile.rec", "report.html"].map(|name| place.path().join(name));
    fs::write(&recording, hostile).unwrap();
    let mut report = Command::new(tracer_bin());
    report.arg("report").arg(&recording).arg("--output").arg(&page);
    let status = report.env("TZ", "UTC").status().unwrap();
    assert!(status.success(), "{status}");

    browser.open(&format!("file://{}", page.display()));
    // The page has no ids but this one, and is whole when the browser has the last of it.
    browser.wait_for_text("summary", |text| text.contains("fstrim"));
    let last = "[...document.querySelectorAll('p')].at(-1).textContent";
    let last = browser.evaluate(last).as_str().unwrap().to_owned();
    assert!(last.starts_with("Made by tracer"), "{last}");
    let texts = "[...document.querySelector('svg').querySelectorAll('text')]\
                 .map((text) => text.textContent.trim()).join('\\n')";
    let texts = browser.evaluate(texts).as_str().unwrap().to_owned();
    println!("{texts}");
    for text in ["<b>fstrim (", " discard: up to ", "p99 ▲", "p50 ●", "16:24:40", "device"] {
        assert!(texts.contains(text), "{text}: {texts}");
    }
    assert_eq!(browser.evaluate("document.querySelectorAll('b, script, img, a').length"), 0);
    assert_eq!(browser.evaluate(FITS), true);

    browser.emulate("setDeviceMetricsOverride", phone());
    let width = browser.evaluate("document.documentElement.scrollWidth").as_f64().unwrap();
    assert!(width <= 390.0, "{width}: the page is wider than a phone");
    let ink = "getComputedStyle(document.querySelector('svg text')).fill";
    assert_eq!(browser.evaluate(ink), "rgb(28, 30, 33)");
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.emulate("setEmulatedMedia", dark);
    assert_eq!(browser.evaluate(ink), "rgb(228, 230, 233)");
    has_no_faults(&browser);
}

pub fn phone() -> serde_json::Value {
    json!({"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": true})
}
