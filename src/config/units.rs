//! Sizes and durations as texts.

use std::time::Duration;

/// Clocks can be moved by this much without overflow, and nothing here waits longer.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `"512KiB"` in bytes.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    usize::try_from(parse(text, &SIZE_UNITS)?).ok()
}

/// `"500ms"`; at most 365 days.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis).filter(|time| *time <= MAX_TIME)
}

/// `"50/s"`: how many, and in what time.
pub(super) fn parse_rate(text: &str) -> Option<(u64, Duration)> {
    let (number, per) = text.split_once('/')?;
    Some((parse(number, &[("", 1)])?, parse_per(per)?))
}

/// `"1MiB/s"`: how many bytes, and in what time.
pub(super) fn parse_byte_rate(text: &str) -> Option<(u64, Duration)> {
    let (size, per) = text.split_once('/')?;
    Some((parse(size, &SIZE_UNITS)?, parse_per(per)?))
}

fn parse_per(unit: &str) -> Option<Duration> {
    match unit {
        "s" => Some(Duration::from_secs(1)),
        "m" => Some(Duration::from_secs(60)),
        "h" => Some(Duration::from_secs(3600)),
        _ => None,
    }
}

/// In the largest unit that has no remainder.
pub(super) fn show_size(bytes: usize) -> String {
    show(bytes as u64, &SIZE_UNITS, "B")
}

/// In the largest unit that has no remainder.
pub(super) fn show_time(time: Duration) -> String {
    show(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS, "ms")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let unit = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{number}{smallest}"), |(name, factor)| format!("{}{name}", number / factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        let sizes = [("0B", 0), ("1B", 1), ("1kB", 1000), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GB", 2_000_000_000)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        let not = ["", "1", "B", "1KB", "1kb", "1Kib", "1 MiB", "1.5MiB", "-1B", "+1B", "1_0B", "1B ", "1TiB", "٣B"];
        for text in not {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(parse_size("18446744073709551615B"), Some(usize::MAX));
        assert_eq!(parse_size("18446744073709551616B"), None);
        assert_eq!(parse_size("17179869184GiB"), None);
    }

    #[test]
    fn rates_have_a_number_and_a_time() {
        assert_eq!(parse_rate("50/s"), Some((50, Duration::from_secs(1))));
        assert_eq!(parse_rate("3/m"), Some((3, Duration::from_secs(60))));
        assert_eq!(parse_byte_rate("1MiB/h"), Some((1 << 20, Duration::from_secs(3600))));
        for text in ["", "50", "50/", "/s", "50/ms", "50 /s", "1MiB/s", "-1/s", "1/2s"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
        for text in ["50/s", "1MiB", "1MiB/", "1MiB/d"] {
            assert_eq!(parse_byte_rate(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let times =
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("365d", 31_536_000_000)];
        for (text, milliseconds) in times {
            assert_eq!(parse_time(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "10", "s", "10S", "1.5s", "1h30m", "-1s", "10 s", "10us", "366d", "18446744073709551615d"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes: usize, milliseconds in 0..31_536_000_001u64) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            prop_assert_eq!(parse_time(&show_time(time)), Some(time));
        }
    }
}
