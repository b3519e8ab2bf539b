//! Renews the texts in `docs/verdicts.md` that `tracer replay` prints for recordings of
//! the scenarios.
//!
//! A fenced block of the page that shows such a text begins with the name of its scenario
//! and the victim: "```text an_fstrim_is_named_on_ext4 etcd".

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tracer_step::{self as step, Profile, workspace};

use crate::matrix::PAGE;

const FENCE: &str = "```";

pub const EXAMPLES: &str = "\
Example:
  TRACER_KEEP_RECORDINGS=/tmp/kept cargo xtask test live::scenarios
  cargo xtask verdicts /tmp/kept        Write what `tracer replay` prints into docs/verdicts.md";

#[derive(Args)]
pub struct VerdictsArgs {
    /// The directory with the recordings.
    recordings: PathBuf,
}

pub fn run(args: &VerdictsArgs) -> Result<()> {
    if !args.recordings.is_dir() {
        bail!("`{}` is no directory", args.recordings.display());
    }
    let tracer = step::build_tracer(Profile::Debug)?;
    let path = workspace().join(PAGE);
    let old = fs::read_to_string(&path).with_context(|| format!("failed to read `{PAGE}`"))?;
    let (mut renewed, mut absent) = (0, Vec::new());
    let new = renew(&old, |scenario, victim| {
        let recording = args.recordings.join(format!("{scenario}.rec"));
        if !recording.is_file() {
            absent.push(scenario.to_owned());
            return Ok(None);
        }
        renewed += 1;
        replay(&tracer, &recording, victim).map(Some)
    })?;
    fs::write(&path, new).with_context(|| format!("failed to write `{PAGE}`"))?;
    println!("{PAGE}: {renewed} texts renewed, {} left as they were", absent.len());
    for scenario in absent {
        eprintln!("no recording: {scenario}");
    }
    Ok(())
}

fn replay(tracer: &Path, recording: &Path, victim: &str) -> Result<String> {
    let mut command = Command::new(tracer);
    command.arg("replay").arg(recording).arg(victim);
    step::read_output(&mut command)
        .with_context(|| format!("`tracer replay {} {victim}` failed", recording.display()))
}

/// Replaces the text of each block that names a scenario and a victim, if there is another.
///
/// # Errors
///
/// A block does not end, or there is an error in getting its text.
fn renew(
    page: &str,
    mut replay: impl FnMut(&str, &str) -> Result<Option<String>>,
) -> Result<String> {
    let mut new = String::with_capacity(page.len());
    let mut lines = page.split_inclusive('\n');
    while let Some(line) = lines.next() {
        new.push_str(line);
        let Some(info) = line.strip_prefix(FENCE) else { continue };
        let (mut old, mut has_ended) = (String::new(), false);
        for line in lines.by_ref() {
            has_ended = line.trim_end() == FENCE;
            if has_ended {
                break;
            }
            old.push_str(line);
        }
        if !has_ended {
            bail!("a block does not end: {}", line.trim_end());
        }
        let words: Vec<_> = info.split_whitespace().collect();
        let text = match words[..] {
            ["text", scenario, victim] => replay(scenario, victim)?,
            _ => None,
        };
        let text = text.map_or(old, |text| format!("{}\n", text.trim_end()));
        new.push_str(&text);
        new.push_str(FENCE);
        new.push('\n');
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Page

```text a_scenario etcd
old
  older
```

```
other
```
";

    #[test]
    fn the_text_of_a_scenario_is_replaced_and_no_other() {
        let new = renew(PAGE, |scenario, victim| Ok(Some(format!("{scenario} of {victim}\n\n"))));
        assert_eq!(new.unwrap(), PAGE.replace("old\n  older", "a_scenario of etcd"));
    }

    #[test]
    fn without_a_recording_the_page_stays() {
        assert_eq!(renew(PAGE, |_, _| Ok(None)).unwrap(), PAGE);
    }

    #[test]
    fn a_block_without_an_end_is_an_error() {
        let error = renew("a\n```text x etcd\nb\n", |_, _| Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "a block does not end: ```text x etcd");
    }

    #[test]
    fn every_block_of_the_page_names_a_scenario() {
        let scenarios = workspace().join("tests/src/live/scenarios");
        let files = fs::read_dir(scenarios).unwrap().map(|file| file.unwrap().path());
        let sources: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        let page = fs::read_to_string(workspace().join(crate::matrix::PAGE)).unwrap();
        let mut named = 0;
        let check = |scenario: &str, _: &str| {
            named += 1;
            assert!(sources.contains(&format!("fn {scenario}()")), "{scenario}");
            Ok(None)
        };
        assert_eq!(renew(&page, check).unwrap(), page);
        assert!(named > 10, "{named}");
    }
}
