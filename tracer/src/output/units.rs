//! Numbers as people read them: durations, rates, bytes, shares, times.
//!
//! Each fits a column of a known width whatever the number is; what is no
//! number at all is shown as `-`.

use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999, where the four-digit years end.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A duration, such as `412 µs`, `1.3 ms`, `2.10 s`: at most 7 columns.
pub fn duration(seconds: f64) -> String {
    let s = seconds;
    // The bounds lie where the rounded number would need a digit more.
    match s {
        _ if s.is_nan() || s < 0.0 => "-".to_owned(),
        _ if s < 50e-9 => "0 µs".to_owned(),
        _ if s < 9.95e-6 => format!("{:.1} µs", s * 1e6),
        _ if s < 999.5e-6 => format!("{:.0} µs", s * 1e6),
        _ if s < 99.95e-3 => format!("{:.1} ms", s * 1e3),
        _ if s < 999.5e-3 => format!("{:.0} ms", s * 1e3),
        _ if s < 9.995 => format!("{s:.2} s"),
        _ if s < 99.95 => format!("{s:.1} s"),
        _ if s < 9999.5 => format!("{s:.0} s"),
        _ => ">9999 s".to_owned(),
    }
}

/// A rate or a count, such as `0.3`, `412`, `12.3k`: at most 5 columns.
pub fn rate(per_second: f64) -> String {
    let (number, prefix) = scaled(per_second);
    format!("{number}{prefix}")
}

/// A size, such as `12.3 MB`: at most 7 columns.
pub fn bytes(size: f64) -> String {
    let (number, prefix) = scaled(size);
    if number == "-" { number } else { format!("{number} {prefix}B") }
}

/// Bytes per second, such as `12.3 MB/s`: at most 9 columns.
pub fn bytes_rate(per_second: f64) -> String {
    match bytes(per_second) {
        nothing if nothing == "-" => nothing,
        bytes => format!("{bytes}/s"),
    }
}

/// A share of one as per cent, such as `83%`: at most 5 columns.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p.is_nan() || p < 0.0 => "-".to_owned(),
        0.0 => "0%".to_owned(),
        p if p < 0.5 => "<1%".to_owned(),
        p if p < 999.5 => format!("{p:.0}%"),
        _ => ">999%".to_owned(),
    }
}

/// A part's share of a whole, between 0 and 1; 0 when there is no whole.
pub fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 && part > 0.0 { (part / whole).min(1.0) } else { 0.0 }
}

/// The number, and 0 instead of a negative zero, which is what the sum of no numbers is in Rust.
/// Every number that leaves the tracer passes here: readers take `-0` for an error.
pub fn unsigned_zero(value: f64) -> f64 {
    value + 0.0
}

/// How long the tracer has been watching, such as `2m 5s` or `3h 12m`.
pub fn span(seconds: f64) -> String {
    let whole = seconds.clamp(0.0, LAST_SECOND) as u64;
    let shown = if whole < 3600 { whole } else { whole - whole % 60 };
    humantime::format_duration(Duration::from_secs(shown)).to_string()
}

/// A time in Unix seconds as UTC, such as `2026-03-01T12:00:00.250Z`.
pub fn utc(at: f64) -> String {
    // `clamp` lets NaN pass, and the conversion makes 0 of it.
    let ms = (at.clamp(0.0, LAST_SECOND) * 1000.0).round() as u64;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// `20:12:03 UTC`, of Unix seconds.
pub fn clock(at: f64) -> String {
    let utc = utc(at);
    format!("{} UTC", utc.get(11..19).unwrap_or(&utc))
}

/// `2026-11-28 20:12 UTC`, of Unix seconds.
pub fn date(at: f64) -> String {
    let utc = utc(at);
    let minutes = utc.get(..16).unwrap_or(&utc);
    format!("{} UTC", minutes.replace('T', " "))
}

/// `reference of 2026-11-28 20:12 UTC`, where one was kept.
pub fn reference(at: Option<f64>) -> Option<String> {
    at.map(|at| format!("reference of {}", date(at)))
}

/// A number of at most four digits, and the prefix for its unit.
fn scaled(value: f64) -> (String, &'static str) {
    let value = unsigned_zero(value);
    if value.is_nan() || value < 0.0 {
        return ("-".to_owned(), "");
    }
    if value < 9.95 {
        let digits = if value == 0.0 { 0 } else { 1 };
        return (format!("{value:.digits$}"), "");
    }
    if value < 999.5 {
        return (format!("{value:.0}"), "");
    }
    let mut scaled = value;
    for prefix in ["k", "M", "G", "T"] {
        scaled /= 1000.0;
        if scaled < 99.95 {
            return (format!("{scaled:.1}"), prefix);
        }
        if scaled < 999.5 {
            return (format!("{scaled:.0}"), prefix);
        }
    }
    (">999".to_owned(), "T")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_keep_two_or_three_digits() {
        let shown = [0.0, 4.2e-6, 412e-6, 999.6e-6, 1.3e-3, 48.12e-3, 120e-3, 2.1, 12.1, 123.4];
        let shown = shown.map(duration).join(", ");
        assert_eq!(
            shown,
            "0 µs, 4.2 µs, 412 µs, 1.0 ms, 1.3 ms, 48.1 ms, 120 ms, 2.10 s, 12.1 s, 123 s"
        );
    }

    #[test]
    fn rates_and_bytes_take_a_prefix() {
        assert_eq!(
            [0.0, 0.3, 85.0, 412.4, 12_345.0, 2e6].map(rate).join(" "),
            "0 0.3 85 412 12.3k 2.0M"
        );
        let bytes = [0.0, 512.0, 12.3e6, 4.2e9].map(bytes_rate).join(", ");
        assert_eq!(bytes, "0 B/s, 512 B/s, 12.3 MB/s, 4.2 GB/s");
    }

    #[test]
    fn a_small_share_is_not_rounded_to_nothing() {
        assert_eq!([0.0, 0.004, 0.006, 0.834, 1.0].map(percent).join(" "), "0% <1% 1% 83% 100%");
        assert_eq!(share(1.0, 0.0), 0.0);
        assert_eq!(share(f64::NAN, 1.0), 0.0);
        assert_eq!(share(2.0, 1.0), 1.0);
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(utc(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_772_366_400.25), "2026-03-01T12:00:00.250Z");
        assert_eq!(utc(f64::NAN), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(f64::INFINITY), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn spans_drop_what_no_longer_matters() {
        assert_eq!([0.4, 125.0, 11_525.0].map(span).join(", "), "0s, 2m 5s, 3h 12m");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for bad in [f64::NAN, -1.0] {
            assert_eq!([duration(bad), rate(bad), bytes_rate(bad), percent(bad)], ["-"; 4]);
        }
    }

    proptest! {
        #[test]
        fn every_number_fits_its_column(number: f64) {
            prop_assert!(duration(number).chars().count() <= 7);
            prop_assert!(rate(number).chars().count() <= 5);
            prop_assert!(bytes_rate(number).chars().count() <= 9);
            prop_assert!(percent(number).chars().count() <= 5);
            utc(number);
            span(number);
        }
    }
}
