//! A question about the recording, as the parameters of a request ask it.
//!
//! Times are Unix seconds, or RFC 3339 with an offset: whoever asks may live in another
//! zone than the node. In names and values `%` stands before two hexadecimal digits, and
//! `+` is a plus, since offsets have one.

use std::time::Duration;

use jiff::Timestamp;

/// The longest query, and the longest name of a victim.
const QUERY_BYTES: usize = 2048;
const VICTIM_BYTES: usize = 256;

/// The time that is asked about where only its end, or only its beginning, is named.
const USUAL_SECONDS: f64 = 3600.0;
const USUAL_VERDICT_SECONDS: f64 = 300.0;

/// Verdicts are on at most this long.
const MAX_VERDICT: Duration = Duration::from_secs(86_400);

/// Later moments are not those of a recording: the year 2100.
const MAX_UNIX_SECONDS: f64 = 4_102_444_800.0;

/// A question; times are Unix seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    Timeline {
        from: f64,
        to: f64,
    },
    Why {
        /// Without one, it is the victim that waits longest beyond its baseline.
        victim: Option<String>,
        from: f64,
        to: f64,
    },
    Recording {
        from: f64,
        to: f64,
    },
    Report {
        from: f64,
        to: f64,
    },
}

impl Question {
    /// # Errors
    ///
    /// When a parameter is not known, stands twice or makes no sense: a sentence.
    pub fn timeline(query: &str, now: f64) -> Result<Self, String> {
        let [from, to] = span(query, now)?;
        Ok(Self::Timeline { from, to })
    }

    /// # Errors
    ///
    /// As [`Question::timeline`].
    pub fn recording(query: &str, now: f64) -> Result<Self, String> {
        let [from, to] = span(query, now)?;
        Ok(Self::Recording { from, to })
    }

    /// # Errors
    ///
    /// As [`Question::timeline`].
    pub fn report(query: &str, now: f64) -> Result<Self, String> {
        let [from, to] = span(query, now)?;
        Ok(Self::Report { from, to })
    }

    /// # Errors
    ///
    /// As [`Question::timeline`].
    pub fn why(query: &str) -> Result<Self, String> {
        let [victim, at, length] = read(query, ["victim", "at", "for"])?;
        let at = at.ok_or("`at` is missing: a time such as 2026-11-29T03:12:00+01:00")?;
        let from = moment("at", &at)?;
        let seconds = match length.map(|length| humantime::parse_duration(&length)) {
            None => USUAL_VERDICT_SECONDS,
            Some(Ok(length)) if (Duration::from_secs(1)..=MAX_VERDICT).contains(&length) => {
                length.as_secs_f64()
            }
            Some(_) => return Err("`for` must be 1s to 24h, such as 5m".to_owned()),
        };
        if victim.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > VICTIM_BYTES) {
            return Err(format!("`victim` must have 1 to {VICTIM_BYTES} bytes"));
        }
        Ok(Self::Why { victim, from, to: from + seconds })
    }
}

fn span(query: &str, now: f64) -> Result<[f64; 2], String> {
    let [from, to] = read(query, ["from", "to"])?;
    let to = to.map_or(Ok(now), |to| moment("to", &to))?;
    let from = from.map_or(Ok(to - USUAL_SECONDS), |from| moment("from", &from))?;
    match from < to {
        true => Ok([from, to]),
        false => Err("`from` must be before `to`".to_owned()),
    }
}

/// The values of these parameters, each at most once, and no others.
fn read<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], String> {
    if query.len() > QUERY_BYTES {
        return Err(format!("the parameters are longer than {QUERY_BYTES} bytes"));
    }
    let mut values = [const { None }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(format!("the parameters are {}", names.join(", ")));
        };
        if values[at].replace(decode(value)?).is_some() {
            return Err(format!("`{}` stands twice", names[at]));
        }
    }
    Ok(values)
}

fn moment(name: &str, text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().or_else(|| {
        let at = text.parse::<Timestamp>().ok()?;
        Some(at.as_millisecond() as f64 / 1e3)
    });
    seconds.filter(|at| (0.0..=MAX_UNIX_SECONDS).contains(at)).ok_or_else(|| {
        format!(
            "`{name}` must be Unix seconds, or RFC 3339 with an offset such as \
             2026-11-29T03:12:00+01:00"
        )
    })
}

/// Undoes the encoding of an address.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("`%` stands before two hexadecimal digits".to_owned());
        };
        bytes.push((high * 16 + low) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the parameters are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29T03:12:00+01:00.
    const AT: f64 = 1_795_918_320.0;

    #[test]
    fn times_are_unix_seconds_or_have_an_offset() {
        for at in [
            "1795918320",
            "1795918320.0",
            "2026-11-29T03:12:00+01:00",
            "2026-11-29T03:12:00%2B01:00",
            "2026-11-29T02:12:00Z",
        ] {
            let asked = Question::why(&format!("at={at}")).unwrap();
            assert_eq!(asked, Question::Why { victim: None, from: AT, to: AT + 300.0 }, "{at}");
        }
        let asked = Question::why("victim=kube-system%2Fetcd&at=1795918320&for=2m").unwrap();
        let victim = Some("kube-system/etcd".to_owned());
        assert_eq!(asked, Question::Why { victim, from: AT, to: AT + 120.0 });
    }

    #[test]
    fn without_times_it_is_the_last_hour() {
        let timeline = |query| Question::timeline(query, AT).unwrap();
        assert_eq!(timeline(""), Question::Timeline { from: AT - 3600.0, to: AT });
        assert_eq!(timeline("from=100&to=200.5"), Question::Timeline { from: 100.0, to: 200.5 });
        assert_eq!(timeline("from=100"), Question::Timeline { from: 100.0, to: AT });
        assert_eq!(timeline("to=7200"), Question::Timeline { from: 3600.0, to: 7200.0 });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        let long = format!("victim={}&at=1", "x".repeat(257));
        let longer = format!("victim={}&at=1", "x".repeat(4000));
        for (query, says) in [
            ("", "`at` is missing"),
            ("at=03:12", "with an offset"),
            ("at=2026-11-29T03:12:00", "with an offset"),
            ("at=NaN", "with an offset"),
            ("at=-1", "with an offset"),
            ("at=1e300", "with an offset"),
            ("at=1&for=0s", "1s to 24h"),
            ("at=1&for=25h", "1s to 24h"),
            ("at=1&for=soon", "1s to 24h"),
            ("at=1&at=2", "stands twice"),
            ("at=1&zone=Mars", "the parameters are victim, at, for"),
            ("at=1&victim=%20", "`victim`"),
            ("at=1&victim=%f", "two hexadecimal digits"),
            ("at=1&victim=%ff", "not UTF-8"),
            (long.as_str(), "1 to 256 bytes"),
            (longer.as_str(), "longer than 2048 bytes"),
        ] {
            let why = Question::why(query).unwrap_err();
            assert!(why.contains(says), "{query}: {why}");
        }
        let why = Question::timeline("from=200&to=100", AT).unwrap_err();
        assert_eq!(why, "`from` must be before `to`");
        assert!(Question::recording("at=1", AT).unwrap_err().contains("from, to"));
    }
}
