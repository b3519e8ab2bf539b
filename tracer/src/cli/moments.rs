//! Moments as people write them: a time of day, a date, RFC 3339, or how long ago.
//!
//! A moment without an offset of its own is local time, by `TZ` or `/etc/localtime`; outputs say
//! which zone that is. Knows no recording: what a time of day means depends on when the
//! recording was made, which [`Moment::resolve`] gets from its caller.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{
    Span, Timestamp, ToSpan as _,
    civil::{DateTime, Time},
    tz::TimeZone,
};

/// A moment, before it is known which recording is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// A moment with its offset from UTC.
    Exact(Timestamp),
    /// On a day, in local time.
    Local(DateTime),
    /// On a day that the recording is of, in local time.
    Clock(Time),
    Ago(Duration),
}

/// How a moment is written.
const FORMS: &str =
    "write it like 03:12, \"2026-11-29 03:12\", 2026-11-29T03:12:00+01:00 or 2h (ago)";

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(exact) = text.parse() {
            return Ok(Self::Exact(exact));
        }
        // jiff also reads `03` as a time, a time out of a date, and a local time out of one
        // with an offset that it then forgets.
        let is_of = |others: &str| text.chars().all(|c| c.is_ascii_digit() || others.contains(c));
        if text.matches('-').count() == 2
            && is_of("-:.T ")
            && let Ok(local) = text.parse()
        {
            return Ok(Self::Local(local));
        }
        if text.contains(':')
            && is_of(":.")
            && let Ok(time) = text.parse()
        {
            return Ok(Self::Clock(time));
        }
        match humantime::parse_duration(text.trim_end_matches("ago").trim_end()) {
            Ok(ago) => Ok(Self::Ago(ago)),
            Err(_) => Err(format!("not a time; {FORMS}")),
        }
    }
}

/// The time that a recording is of, as far as it is known, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Covered {
    pub first: f64,
    pub last: Option<f64>,
}

impl Moment {
    /// In Unix seconds. A time of day is the last one that the recording reaches; where
    /// it is not known how far that is, the first one that leaves something of it to
    /// look at for `length` seconds.
    ///
    /// # Errors
    ///
    /// When there is no such moment.
    pub fn resolve(&self, zone: &Zone, covered: Covered, length: f64) -> Result<f64, String> {
        let none = || "there is no such moment".to_owned();
        let of = |local: DateTime| {
            local.to_zoned(zone.0.clone()).map(|at| seconds(at.timestamp())).map_err(|_| none())
        };
        match self {
            Self::Exact(at) => Ok(seconds(*at)),
            Self::Local(local) => of(*local),
            Self::Ago(ago) => Ok(seconds(Timestamp::now()) - ago.as_secs_f64()),
            Self::Clock(time) => {
                let (near, step): (f64, Span) = match covered.last {
                    Some(last) => (last, -1.day()),
                    None => (covered.first, 1.day()),
                };
                let is_it = |at: f64| match covered.last {
                    Some(last) => at <= last,
                    None => at + length > covered.first,
                };
                // The day on which it is, the one before, and the one after.
                let mut day =
                    zone.at(near).ok_or_else(none)?.date().checked_sub(step).map_err(|_| none())?;
                for _ in 0..4 {
                    let at = of(day.to_datetime(*time))?;
                    if is_it(at) {
                        return Ok(at);
                    }
                    day = day.checked_add(step).map_err(|_| none())?;
                }
                Err(none())
            }
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_nanosecond() as f64 / 1e9
}

/// The time zone of local times.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone that `TZ` names, or `/etc/localtime`.
    pub fn of_this_machine() -> Self {
        Self(TimeZone::system())
    }

    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    fn at(&self, unix_seconds: f64) -> Option<jiff::Zoned> {
        // A conversion keeps within the bounds of its type.
        let at = Timestamp::from_microsecond((unix_seconds * 1e6) as i64).ok()?;
        Some(at.to_zoned(self.0.clone()))
    }

    /// `2026-11-29 03:12:00`, of Unix seconds.
    pub fn local(&self, unix_seconds: f64) -> String {
        let at = self.at(unix_seconds);
        at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// `03:12:00`.
    pub fn time(&self, unix_seconds: f64) -> String {
        let at = self.at(unix_seconds);
        at.map_or_else(|| "-".to_owned(), |at| at.strftime("%H:%M:%S").to_string())
    }

    /// `2026-11-29T03:12:00+01:00`.
    pub fn rfc3339(&self, unix_seconds: f64) -> String {
        let at = self.at(unix_seconds);
        at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }

    /// `+01:00 (Europe/Berlin)`, at a moment.
    pub fn name(&self, unix_seconds: f64) -> String {
        let offset = self.at(unix_seconds).map(|at| at.strftime("%:z").to_string());
        let offset = offset.unwrap_or_else(|| "+00:00".to_owned());
        format!("{offset} ({self})")
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iana_name() {
            Some(name) => f.write_str(name),
            None if self.0.is_unknown() => f.write_str("UTC, as this machine has no time zone"),
            None => f.write_str("local time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        // CET and CEST, as POSIX writes them: the machine needs no table of zones.
        Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
    }

    fn resolve(text: &str, covered: Covered) -> f64 {
        text.parse::<Moment>().unwrap().resolve(&berlin(), covered, 300.0).unwrap()
    }

    /// 2026-11-29T03:12:00+01:00.
    const AT: f64 = 1_795_918_320.0;
    const DAY: f64 = 86_400.0;

    #[test]
    fn a_moment_with_an_offset_is_what_it_says_and_one_without_is_local() {
        let any = Covered { first: 0.0, last: None };
        for text in [
            "2026-11-29T03:12:00+01:00",
            "2026-11-29T02:12:00Z",
            "2026-11-29 02:12:00Z",
            "2026-11-29 03:12",
            "2026-11-29T03:12:00",
            " 2026-11-29 03:12:00 ",
        ] {
            assert_eq!(resolve(text, any), AT, "{text}");
        }
        // In summer it is another offset.
        assert_eq!(resolve("2026-07-01 03:12", any), resolve("2026-07-01T01:12:00Z", any));
        assert_eq!(resolve("2026-11-29", any), AT - 3.0 * 3600.0 - 720.0);
    }

    #[test]
    fn a_time_of_day_is_the_last_that_the_recording_reaches() {
        let until = |last| Covered { first: AT - 3.0 * DAY, last: Some(last) };
        assert_eq!(resolve("03:12", until(AT + 60.0)), AT);
        assert_eq!(resolve("03:12", until(AT)), AT);
        assert_eq!(resolve("03:12", until(AT - 1.0)), AT - DAY);
        assert_eq!(resolve("03:12:30", until(AT + 20.0 * 3600.0)), AT + 30.0);
        assert_eq!(resolve("23:59", until(AT)), AT - 3.0 * 3600.0 - 13.0 * 60.0);
    }

    #[test]
    fn where_the_end_is_not_known_it_is_the_first_that_leaves_something_to_look_at() {
        let from = |first| Covered { first, last: None };
        assert_eq!(resolve("03:12", from(AT - 5.0 * 3600.0)), AT, "begun the evening before");
        assert_eq!(resolve("03:12", from(AT + 60.0)), AT, "begun within the five minutes");
        assert_eq!(resolve("03:12", from(AT + 301.0)), AT + DAY);
    }

    #[test]
    fn a_time_that_the_clock_shows_twice_or_never_is_taken_all_the_same() {
        let any = Covered { first: 0.0, last: None };
        // 2026-10-25: 02:00 to 03:00 comes twice; the first is meant. 2026-03-29: it is left out.
        assert_eq!(resolve("2026-10-25 02:30", any), resolve("2026-10-25T00:30:00Z", any));
        assert_eq!(resolve("2026-03-29 02:30", any), resolve("2026-03-29T01:30:00Z", any));
    }

    #[test]
    fn how_long_ago_is_from_now() {
        let now = seconds(Timestamp::now());
        let at = resolve("2h", Covered { first: 0.0, last: Some(1.0) });
        assert!((now - at - 7200.0).abs() < 5.0);
        assert_eq!("90m ago".parse(), Ok(Moment::Ago(Duration::from_secs(5400))));
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_that_are_read() {
        for text in [
            "",
            "soon",
            "25:00",
            "03",
            "2026-13-01",
            "3:12pm",
            "2026-11-29T03:12+99:00",
            "2026-11-29T03:12[Mars]",
        ] {
            let error = text.parse::<Moment>().unwrap_err();
            assert!(error.contains("write it like 03:12"), "{text}: {error}");
        }
    }

    #[test]
    fn the_zone_is_named_with_its_offset_at_that_moment() {
        assert_eq!(berlin().name(AT), "+01:00 (local time)");
        assert_eq!(berlin().local(AT), "2026-11-29 03:12:00");
        assert_eq!(berlin().rfc3339(AT), "2026-11-29T03:12:00+01:00");
        assert_eq!(Zone(TimeZone::UTC).name(AT), "+00:00 (UTC)");
        for bad in [f64::NAN, f64::INFINITY, 1e300] {
            let _ = (berlin().local(bad), berlin().name(bad), berlin().time(bad));
        }
    }
}
