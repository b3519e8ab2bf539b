//! Writes the page that says what works on which kernel, from reports alone.
//!
//! This is pure: the same reports and date make the same text.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    console::Outcome,
    plan::Boot,
    report::{Report, Verdict},
};

/// Reasons, numbered in the order in which they first appear.
#[derive(Default)]
struct Footnotes(Vec<String>);

impl Footnotes {
    fn mark(&mut self, reason: &str) -> String {
        if reason.is_empty() {
            return String::new();
        }
        let known = self.0.iter().position(|known| known == reason);
        let index = known.unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!(" [^{}]", index + 1)
    }
}

/// The whole page.
pub fn render(reports: &[Report], date: &str, command: &str) -> String {
    let mut notes = Footnotes::default();
    let mut page = format!(
        "# Kernels\n\n\
         Debian's kernels in emulated machines, booted on {date} by `cargo xtask {command}`, which wrote this page.\n"
    );
    page += &boots(reports, &mut notes);
    page += &strategies(reports);
    page += &cells(reports, &mut notes);
    for (index, reason) in notes.0.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n[^{}]: {}\n", index + 1, reason);
    }
    page
}

fn boots(reports: &[Report], notes: &mut Footnotes) -> String {
    let mut text = "\n## Boots\n\n\
        | kernel | machine | lockdown | CPUs | cgroup | passed | failed | skipped | |\n\
        |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for report in reports {
        let Boot { series, arch, lockdown, cpus, cgroup, .. } = &report.boot;
        let kernel =
            if report.release.is_empty() { series.to_string() } else { report.release.clone() };
        let result = match &report.verdict {
            Verdict::Passed => "✓".to_owned(),
            Verdict::Failed(_) if !report.failures.is_empty() => {
                let tests = format!("failed: {}", report.failures.join(", "));
                format!("✗{}", notes.mark(&sentence(&tests)))
            }
            Verdict::Failed(why) => format!("✗{}", notes.mark(&sentence(why))),
            Verdict::Skipped(why) => format!("–{}", notes.mark(&sentence(why))),
        };
        let _ = writeln!(
            text,
            "| {kernel} | {} | {} | {cpus} | {} | {} | {} | {} | {result} |",
            arch.name(),
            lockdown.name(),
            cgroup.name(),
            report.passed,
            report.failed,
            report.skipped,
        );
    }
    text
}

/// The selected strategy of each capability, or several if cells differ.
fn strategies(reports: &[Report]) -> String {
    let mut capabilities: Vec<&str> = Vec::new();
    let mut taken: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    for (index, report) in reports.iter().enumerate() {
        for (capability, strategy) in report.cells.iter().flat_map(|cell| &cell.strategies) {
            if !capabilities.contains(&capability.as_str()) {
                capabilities.push(capability);
            }
            let strategy = strategy.as_deref().unwrap_or("not seen");
            let strategies = taken.entry((index, capability)).or_default();
            if !strategies.contains(&strategy) {
                strategies.push(strategy);
            }
        }
    }
    if capabilities.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## Attach strategies\n\n| kernel | machine | lockdown | {} |\n|---|---|---|{}\n",
        capabilities.join(" | "),
        "---|".repeat(capabilities.len())
    );
    for (index, report) in reports.iter().enumerate() {
        if report.cells.is_empty() {
            continue;
        }
        let Boot { arch, lockdown, .. } = &report.boot;
        let _ = write!(text, "| {} | {} | {} |", report.release, arch.name(), lockdown.name());
        for capability in &capabilities {
            let strategies =
                taken.get(&(index, *capability)).map_or("–".into(), |r| r.join(", "));
            let _ = write!(text, " {strategies} |");
        }
        text.push('\n');
    }
    text
}

/// One column per kernel and architecture; a cell names the boots only if their results
/// differ.
fn cells(reports: &[Report], notes: &mut Footnotes) -> String {
    let mut columns: Vec<(String, Vec<&Report>)> = Vec::new();
    for report in reports.iter().filter(|report| !report.cells.is_empty()) {
        let title = column(report);
        match columns.iter_mut().find(|(known, _)| *known == title) {
            Some((_, boots)) => boots.push(report),
            None => columns.push((title, vec![report])),
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for cell in reports.iter().flat_map(|report| &report.cells) {
        if !names.contains(&cell.cell.as_str()) {
            names.push(&cell.cell);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let titles: Vec<_> = columns.iter().map(|(title, _)| title.as_str()).collect();
    let mut text = format!(
        "\n## What is seen where\n\n\
         ✓ all counts equal the kernel's own · unsupported: not seen, and the tracer says so · ✗ failed · – cannot be tried\n\n\
         | cell | {} |\n|---|{}\n",
        titles.join(" | "),
        "---|".repeat(titles.len())
    );
    for name in names {
        let _ = write!(text, "| {name} |");
        for (_, boots) in &columns {
            let _ = write!(text, " {} |", merged(name, boots, notes));
        }
        text.push('\n');
    }
    text
}

/// The title of a boot's column, such as `6.18 x86_64`. The plan may name a kernel by its first
/// number alone, so the version is the release's.
fn column(report: &Report) -> String {
    let series = report.boot.series.to_string();
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    let numbers: Vec<_> = report.release.split('.').take(2).map(digits).collect();
    let version = match numbers.as_slice() {
        [major, minor] if !major.is_empty() && !minor.is_empty() => {
            format!("{major}.{minor}{}", if series.ends_with("-rt") { "-rt" } else { "" })
        }
        _ => series,
    };
    format!("{version} {}", report.boot.arch.name())
}

/// The result of a cell over all boots of a column: the worst one, and its reason.
fn merged(name: &str, boots: &[&Report], notes: &mut Footnotes) -> String {
    let found: Vec<_> = boots
        .iter()
        .flat_map(|report| report.cells.iter().map(move |cell| (&report.boot, cell)))
        .filter(|(_, cell)| cell.cell == name)
        .collect();
    let Some(worst) = found.iter().map(|(_, cell)| cell.outcome).max_by_key(|it| badness(*it))
    else {
        return String::new();
    };
    let mut text = match worst {
        Outcome::Green => "✓",
        Outcome::Unsupported => "unsupported",
        Outcome::Failed => "✗",
        Outcome::Skipped => "–",
    }
    .to_owned();
    let is_everywhere =
        found.iter().all(|(_, cell)| cell.outcome == worst && cell.why == found[0].1.why);
    for (boot, cell) in found.iter().filter(|(_, cell)| cell.outcome == worst) {
        let unusual = boot.unusual().join(", ");
        let reason = match cell.why.as_str() {
            "" => String::new(),
            why if is_everywhere || unusual.is_empty() => why.to_owned(),
            why => format!("With {unusual}: {why}"),
        };
        let mark = notes.mark(&reason);
        if !text.contains(&mark) {
            text += &mark;
        }
    }
    text
}

fn badness(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skipped => 0,
        Outcome::Green => 1,
        Outcome::Unsupported => 2,
        Outcome::Failed => 3,
    }
}

/// With a capital and a full stop, on one line.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        console::Cell,
        plan::{Boot, Cgroup, Lockdown},
    };

    fn cell(name: &str, outcome: Outcome, why: &str) -> Cell {
        let strategies =
            [("complete", Some("tracepoint")), ("journal", None), ("sync", Some("fentry"))];
        Cell {
            cell: name.into(),
            outcome,
            why: why.into(),
            strategies: strategies
                .map(|(name, strategy)| (name.to_owned(), strategy.map(str::to_owned)))
                .into(),
            counted: String::new(),
        }
    }

    fn report(series: &str, lockdown: Lockdown, verdict: Verdict, cells: Vec<Cell>) -> Report {
        let boot = Boot {
            series: series.parse().unwrap(),
            arch: crate::arch::Arch::X86,
            lockdown,
            cpus: 1,
            cgroup: Cgroup::V2,
            tests: Vec::new(),
            without: Vec::new(),
        };
        let release = format!("{series}.0-1-amd64");
        let failures = match &verdict {
            Verdict::Failed(_) => vec!["live::x".to_owned(), "live::y".to_owned()],
            _ => Vec::new(),
        };
        Report { cells, failures, passed: 3, ..Report::new(&boot, &release, verdict) }
    }

    #[test]
    fn a_page_has_boots_strategies_cells_and_reasons() {
        use Outcome::{Failed, Green, Skipped, Unsupported};
        let nfs = || cell("nfs", Unsupported, "nfs has no disk here.");
        let reports = [
            report(
                "5.10",
                Lockdown::Off,
                Verdict::Passed,
                vec![cell("ext4, none", Green, ""), nfs(), cell("f2fs", Skipped, "No f2fs.")],
            ),
            report(
                "6.1",
                Lockdown::Off,
                Verdict::Passed,
                vec![cell("ext4, none", Green, ""), nfs()],
            ),
            report(
                "6.1",
                Lockdown::Confidentiality,
                Verdict::Failed("tests failed".into()),
                vec![cell("ext4, none", Failed, "3 of 4 were seen."), nfs()],
            ),
            report("9.9", Lockdown::Off, Verdict::Skipped("no such kernel".into()), Vec::new()),
        ];
        insta::assert_snapshot!(render(&reports, "2000-01-01", "vm --all --docs"), @r"
        # Kernels

        Debian's kernels in emulated machines, booted on 2000-01-01 by `cargo xtask vm --all --docs`, which wrote this page.

        ## Boots

        | kernel | machine | lockdown | CPUs | cgroup | passed | failed | skipped | |
        |---|---|---|---|---|---|---|---|---|
        | 5.10.0-1-amd64 | x86_64 | none | 1 | v2 | 3 | 0 | 0 | ✓ |
        | 6.1.0-1-amd64 | x86_64 | none | 1 | v2 | 3 | 0 | 0 | ✓ |
        | 6.1.0-1-amd64 | x86_64 | confidentiality | 1 | v2 | 3 | 0 | 0 | ✗ [^1] |
        | 9.9.0-1-amd64 | x86_64 | none | 1 | v2 | 3 | 0 | 1 | – [^2] |

        ## Attach strategies

        | kernel | machine | lockdown | complete | journal | sync |
        |---|---|---|---|---|---|
        | 5.10.0-1-amd64 | x86_64 | none | tracepoint | not seen | fentry |
        | 6.1.0-1-amd64 | x86_64 | none | tracepoint | not seen | fentry |
        | 6.1.0-1-amd64 | x86_64 | confidentiality | tracepoint | not seen | fentry |

        ## What is seen where

        ✓ all counts equal the kernel's own · unsupported: not seen, and the tracer says so · ✗ failed · – cannot be tried

        | cell | 5.10 x86_64 | 6.1 x86_64 |
        |---|---|---|
        | ext4, none | ✓ | ✗ [^3] |
        | nfs | unsupported [^4] | unsupported [^4] |
        | f2fs | – [^5] |  |

        [^1]: Failed: live::x, live::y.

        [^2]: No such kernel.

        [^3]: With lockdown=confidentiality: 3 of 4 were seen.

        [^4]: nfs has no disk here.

        [^5]: No f2fs.
        ");
    }

    #[test]
    fn a_column_has_two_numbers_of_the_kernel_that_was_booted() {
        let mut of = report("7", Lockdown::Off, Verdict::Passed, Vec::new());
        of.release = "7.2.13+deb14-amd64".to_owned();
        assert_eq!(column(&of), "7.2 x86_64");
        of.release.clear();
        assert_eq!(column(&of), "7 x86_64");
        let mut of = report("6.12-rt", Lockdown::Off, Verdict::Passed, Vec::new());
        of.release = "6.12.107+deb13-rt-amd64".to_owned();
        assert_eq!(column(&of), "6.12-rt x86_64");
    }

    #[test]
    fn without_cells_there_is_only_the_table_of_boots() {
        let page = render(
            &[report("6.1", Lockdown::Off, Verdict::Passed, Vec::new())],
            "2000-01-01",
            "vm",
        );
        assert!(page.ends_with("| 6.1.0-1-amd64 | x86_64 | none | 1 | v2 | 3 | 0 | 0 | ✓ |\n"));
    }
}
