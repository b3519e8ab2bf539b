//! The report on a recording as one page: Markdown, or HTML that loads nothing else.
//!
//! Names come out of recordings, which anybody may have made: in both forms they are
//! text and nothing else.

use std::{collections::BTreeSet, io};

use super::{
    escape::escape,
    names,
    plot::{self, Chart},
    timeline,
    units::{duration, span},
};
use crate::{
    cli::moments::Zone,
    commands::past::Gap,
    timeline::{Around, Event, What},
};

/// Events that are shown, at most. Longer lists are cut; the episodes below cover all events.
const EVENTS: usize = 500;

/// Slow times that are listed below the summary, at most: what fits on a first screen.
const LISTED: usize = 10;

/// The contents of a report.
#[derive(Debug)]
pub struct Report {
    pub zone: Zone,
    pub recording: String,
    /// Unix seconds.
    pub from: f64,
    pub to: f64,
    pub gaps: Vec<Gap>,
    /// In sentences.
    pub not_seen: Vec<String>,
    pub kernel: String,
    /// All of the time, with the victims that were slow; only HTML has plots.
    pub charts: Vec<Chart>,
    pub events: Vec<Event>,
    pub left_out: u64,
    pub episodes: Vec<Episode>,
}

/// A time in which somebody was slow.
#[derive(Debug)]
pub struct Episode {
    pub from: f64,
    pub to: f64,
    pub charts: Vec<Chart>,
    /// As `tracer why` prints them, the worst first.
    pub verdicts: Vec<String>,
}

impl Report {
    fn title(&self) -> String {
        format!(
            "Who made syncs slow: {} to {}",
            self.zone.local(self.from),
            self.zone.time(self.to)
        )
    }

    /// The ends of the times in which somebody was slow, with their excess.
    fn slow(&self) -> Vec<(&Event, f64)> {
        let excess = |event: &Event| match event.what {
            What::SlowEnded { excess_seconds, .. } => Some(excess_seconds),
            _ => None,
        };
        self.events.iter().filter_map(|event| Some((event, excess(event)?))).collect()
    }

    /// Three sentences.
    fn summary(&self) -> String {
        let slow = self.slow();
        let who = slow.iter().filter_map(|(event, _)| event.what.victim().map(timeline::subject));
        let victims = match who.collect::<BTreeSet<_>>().len() {
            0 | 1 => "one victim was".to_owned(),
            n => format!("{n} victims were"),
        };
        let hangs =
            self.events.iter().filter(|event| matches!(event.what, What::Hang { .. })).count();
        let zone = self.zone.name(self.from);
        let (from, to) = (self.zone.local(self.from), self.zone.local(self.to));
        let seconds = self.to - self.from;
        let hung = match hangs {
            0 => "no sync hung".to_owned(),
            1 => "one sync hung for ten seconds or longer".to_owned(),
            n => format!("{n} syncs hung for ten seconds or longer"),
        };
        let first = format!(
            "From {from} to {to} {zone}, {}, {} and {hung}.",
            span(seconds),
            match slow.len() {
                0 => "no victim was slow".to_owned(),
                1 => "one victim was slow once".to_owned(),
                n => format!("{victims} slow {n} times"),
            }
        );
        let worst = slow.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let second = worst
            .map_or_else(|| "There is nobody to blame.".to_owned(), |(event, _)| self.worst(event));
        let missing: f64 = self.gaps.iter().map(|gap| gap.to - gap.from).sum();
        let third = match missing {
            s if s > 0.0 => format!("The recording lacks {} of this time.", span(s)),
            _ => "The recording covers all of this time.".to_owned(),
        };
        format!("{first} {second} {third}")
    }

    fn worst(&self, event: &Event) -> String {
        let Some((victim, from, how)) = self.described(event) else { return String::new() };
        format!("The worst was {victim}, from {from} {how}.")
    }

    /// The causes of the worst slow times, in the order of time, one sentence for each.
    fn causes(&self) -> Vec<String> {
        let mut slow = self.slow();
        slow.sort_by(|a, b| b.1.total_cmp(&a.1));
        let more = slow.len().saturating_sub(LISTED);
        slow.truncate(LISTED);
        slow.sort_by(|a, b| a.0.at.total_cmp(&b.0.at));
        let lines = slow.iter().filter_map(|(event, _)| self.described(event));
        let mut lines: Vec<_> =
            lines.map(|(victim, from, how)| format!("{from}: {victim} was slow {how}")).collect();
        match more {
            0 => {}
            1 => lines.push("One more time, with less excess, is in the timeline.".to_owned()),
            n => lines.push(format!("{n} more times, with less excess, are in the timeline.")),
        }
        lines
    }

    /// The victim of a slow time, when it began, and how long, how much and why it was slow.
    fn described(&self, event: &Event) -> Option<(String, String, String)> {
        let What::SlowEnded {
            victim,
            kind,
            confidence,
            began_at,
            seconds,
            worst_p99_seconds,
            culprits,
            limit,
            ..
        } = &event.what
        else {
            return None;
        };
        let how = format!(
            "for {}, with a p99 of {}; the cause was {} [{} confidence]",
            span(*seconds),
            duration(*worst_p99_seconds),
            timeline::culprit(*kind, limit.as_deref(), culprits),
            confidence.name()
        );
        let is_of_days = self.to - self.from > 86_400.0;
        let from = if is_of_days { self.zone.local(*began_at) } else { self.zone.time(*began_at) };
        Some((names::actor(&victim.actor), from, how))
    }

    /// Each mark, and the victims' syncs in the minutes before and after it.
    fn marks(&self) -> String {
        let mut lines = Vec::new();
        for Event { at, what } in &self.events {
            let What::Mark { text, uid, seen, around } = what else { continue };
            let by = timeline::said_by((!seen).then_some(*uid));
            lines.push(format!("{}  {}{by}", self.zone.local(*at), escape(text)));
            for Around { victim, before, after } in around {
                lines.push(format!("    {}", timeline::subject(victim)));
                for (name, minute) in [("before", before), ("after", after)] {
                    let minute = timeline::minute(minute.as_ref());
                    lines.push(format!("      the minute {name:<6}  {minute}"));
                }
            }
        }
        lines.join("\n")
    }

    fn figure<'a>(&'a self, chart: &'a Chart) -> Piece<'a> {
        Piece::Figure(chart, &self.zone)
    }

    /// The parts of the page, in their order.
    fn parts(&self) -> io::Result<Vec<Piece<'_>>> {
        let mut parts = vec![Piece::Title(self.title()), Piece::Text(self.summary())];
        let causes = self.causes();
        // The summary has said it where there is only one.
        if causes.len() > 1 {
            parts.push(Piece::List(causes));
        }
        parts.extend(self.charts.iter().map(|chart| self.figure(chart)));
        parts.push(Piece::Heading("Timeline".to_owned()));
        let mut lines = Vec::new();
        for event in self.events.iter().take(EVENTS) {
            timeline::write_event(&mut lines, event, &self.zone)?;
        }
        let more = self.events.len().saturating_sub(EVENTS) as u64 + self.left_out;
        let mut lines = String::from_utf8_lossy(&lines).trim_end().to_owned();
        if more > 0 {
            lines += &format!("\n{more} more events are left out");
        }
        parts.push(if lines.is_empty() {
            Piece::Text("Nothing happened.".to_owned())
        } else {
            Piece::Lines(lines)
        });
        let marks = self.marks();
        if !marks.is_empty() {
            parts.push(Piece::Heading("Before and after each mark".to_owned()));
            parts.push(Piece::Lines(marks));
        }
        for (n, Episode { from, to, charts, verdicts }) in self.episodes.iter().enumerate() {
            let (number, to) = (n + 1, self.zone.time(*to));
            let from = self.zone.local(*from);
            parts.push(Piece::Heading(format!("{number}. {from} to {to}")));
            if verdicts.is_empty() {
                let why =
                    "Taken as a whole, this time is not slow enough for a verdict.".to_owned();
                parts.push(Piece::Text(why));
            }
            parts.extend(verdicts.iter().cloned().map(Piece::Lines));
            parts.extend(charts.iter().map(|chart| self.figure(chart)));
        }
        parts.push(Piece::Heading("What was not seen".to_owned()));
        let gaps = self.gaps.iter().map(|gap| {
            let [from, to] = [gap.from, gap.to].map(|at| self.zone.local(at));
            format!("{from} to {to}: {}", escape(&gap.reason))
        });
        let not_seen = self.not_seen.iter().map(|what| escape(what).into_owned());
        parts.push(Piece::List(gaps.chain(not_seen).collect()));
        parts.push(Piece::Heading("How to see that it is over".to_owned()));
        parts.push(Piece::Text(
            "Change one thing, let the victim sync for some minutes, and ask again. If it is over, \
             `tracer why VICTIM` names nobody, because no sync is slower than the victim's own \
             baseline, and `tracer timeline --since 10m` has no new line."
                .to_owned(),
        ));
        let name = escape(&self.recording);
        let kernel = match escape(&self.kernel) {
            none if none.is_empty() => String::new(),
            kernel => format!(", recorded on Linux {kernel}"),
        };
        let version = env!("CARGO_PKG_VERSION");
        parts.push(Piece::Text(format!(
            "Made by tracer {version} from {name}{kernel}. Times are local, {}.",
            self.zone.name(self.from)
        )));
        Ok(parts)
    }
}

/// A piece of the page.
enum Piece<'a> {
    Title(String),
    Heading(String),
    Text(String),
    /// As they are, in a fixed font.
    Lines(String),
    List(Vec<String>),
    /// In Markdown there is none.
    Figure(&'a Chart, &'a Zone),
}

/// Writes Markdown.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_markdown(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    for part in report.parts()? {
        match part {
            Piece::Title(text) => writeln!(out, "# {}\n", markdown(&text))?,
            Piece::Heading(text) => writeln!(out, "## {}\n", markdown(&text))?,
            Piece::Text(text) => writeln!(out, "{}\n", markdown(&text))?,
            Piece::Lines(lines) => {
                // Indented text is code, and nothing in it can end it.
                lines.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
                writeln!(out)?;
            }
            Piece::Figure(..) => {}
            Piece::List(items) if items.is_empty() => writeln!(out, "Nothing.\n")?,
            Piece::List(items) => {
                items.iter().try_for_each(|item| writeln!(out, "- {}", markdown(item)))?;
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// Text that is no markup, links and HTML least of all. Our own code marks stay.
fn markdown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&' | '~') {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
pre{font:13px/1.45 ui-monospace,monospace;overflow-x:auto;padding:.8rem 1rem;\
border-left:4px solid #1f6fb4;background:rgba(127,127,127,.1)}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
#summary{font-size:1.1rem}\
figure{margin:1.2rem 0;overflow-x:auto;break-inside:avoid}figcaption{font-weight:600;overflow-wrap:anywhere}\
svg{display:block;width:100%;min-width:48rem;height:auto}\
@media print{svg{min-width:0}figure{overflow:visible}body{margin:0;max-width:none}pre{white-space:pre-wrap;overflow:visible}}";

/// Writes one page of HTML that loads nothing and runs nothing.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_html(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    let title = html(&report.title());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<main>\n"
    )?;
    let mut is_first_text = true;
    for part in report.parts()? {
        match part {
            Piece::Title(text) => writeln!(out, "<h1>{}</h1>", html(&text))?,
            Piece::Heading(text) => writeln!(out, "<h2>{}</h2>", html(&text))?,
            Piece::Text(text) => {
                let name = if is_first_text { " id=\"summary\"" } else { "" };
                is_first_text = false;
                writeln!(out, "<p{name}>{}</p>", html(&text))?;
            }
            Piece::Lines(lines) => writeln!(out, "<pre>{}</pre>", html(&lines))?,
            Piece::Figure(chart, zone) => {
                let svg = plot::draw(chart, zone)?;
                let caption = html(&chart.victim);
                writeln!(out, "<figure><figcaption>{caption}</figcaption>\n{svg}</figure>")?;
            }
            Piece::List(items) if items.is_empty() => writeln!(out, "<p>Nothing.</p>")?,
            Piece::List(items) => {
                writeln!(out, "<ul>")?;
                items.iter().try_for_each(|item| writeln!(out, "<li>{}</li>", html(item)))?;
                writeln!(out, "</ul>")?;
            }
        }
    }
    writeln!(out, "</main>\n</html>")
}

/// Text that is no markup.
pub fn html(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
pub(crate) use tests::ended as ended_for_tests;

#[cfg(test)]
mod tests;
