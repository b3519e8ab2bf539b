//! Values on the command line that are more than a word.

use std::time::Duration;

/// Shorter intervals would be a load of their own.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What to look for in names.
pub fn parse_filter(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty: everything would match".into());
    }
    Ok(text.to_owned())
}

/// A duration with its unit, longer than nothing.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 10ms, 1.5s or 2m")),
    }
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
    fn an_interval_may_be_a_number_of_seconds() {
        assert_eq!(parse_interval("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_interval("250ms"), Ok(Duration::from_millis(250)));
        for nonsense in ["0", "-1", "NaN", "inf", "1e300", "99ms", "", "x"] {
            assert!(parse_interval(nonsense).is_err(), "{nonsense}");
        }
    }
}
