//! Values on the command line that are more than a word.

use std::time::Duration;

/// Shorter intervals would load the machine noticeably.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Checks the text that names are searched for.
pub fn parse_filter(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty: everything would match".into());
    }
    Ok(text.to_owned())
}

/// Parses a duration with its unit, longer than zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 10ms, 1.5s or 2m")),
    }
}

/// Units of sizes, each 1024 times the one before.
const SIZES: [&str; 5] = ["", "K", "M", "G", "T"];

/// A number of bytes, such as `512M`, `512MiB` or `2G`: 1024 of each make the next.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
    let power = SIZES.iter().position(|known| *known == unit);
    let size = number.parse::<u64>().ok().zip(power);
    size.and_then(|(number, power)| number.checked_mul(1 << (10 * power)))
        .ok_or_else(|| "is no size; write it like 512M or 2G".to_owned())
}

/// Writes a size with the largest unit that is exact.
pub fn spell_size(bytes: u64) -> String {
    let power = (0..SIZES.len()).rev().find(|power| bytes.is_multiple_of(1 << (10 * power)));
    let power = power.filter(|_| bytes > 0).unwrap_or(0);
    format!("{}{}", bytes >> (10 * power), SIZES[power])
}

/// A number of seconds, or a duration with its unit.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(interval)) => interval,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => parse_duration(text)?,
    };
    if interval < SHORTEST_INTERVAL {
        return Err(format!("must be {} or longer", humantime::format_duration(SHORTEST_INTERVAL)));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_length() {
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("10").unwrap_err().contains("write it like 10ms"));
        assert!(parse_duration("0ms").is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024_and_spelled_as_they_are_read() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("512 MiB", 512 << 20),
            ("2g", 2 << 30),
            ("100", 100),
            ("3KB", 3072),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_size(&spell_size(bytes)), Ok(bytes), "{text}");
        }
        assert_eq!(
            [512 << 20, 1536 << 20, 1 << 40, 0].map(spell_size).join(" "),
            "512M 1536M 1T 0"
        );
        for nonsense in ["", "M", "-1M", "1.5G", "5X", "99999999999T", "much"] {
            assert!(parse_size(nonsense).unwrap_err().contains("write it like 512M"), "{nonsense}");
        }
    }

    #[test]
    fn an_interval_may_be_a_number_of_seconds() {
        assert_eq!(parse_interval("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_interval("250ms"), Ok(Duration::from_millis(250)));
        for nonsense in ["0", "-1", "NaN", "inf", "1e300", "99ms", "", "x"] {
            assert!(parse_interval(nonsense).is_err(), "{nonsense}");
        }
    }
}
