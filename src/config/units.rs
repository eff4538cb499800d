//! Durations and sizes: always with a unit, never a bare number.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// KB is 1,024 bytes, as the servers this one replaces count it; KiB says the same.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1 << 10),
    ("KiB", 1 << 10),
    ("MB", 1 << 20),
    ("MiB", 1 << 20),
    ("GB", 1 << 30),
    ("GiB", 1 << 30),
];

const DURATION_HINT: &str = "needs a unit: ms, s, m or h, as in \"30s\" or \"2m30s\"";
const SIZE_HINT: &str = "needs a unit: B, KB, MB or GB, as in \"10KB\"";

/// Parses `"30s"`, `"500ms"`, `"2m30s"`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    let mut smallest = u64::MAX;
    loop {
        let (number, unit, tail) = split_quantity(rest).ok_or_else(|| unreadable(text, DURATION_HINT))?;
        let scale = scale_of(unit, &DURATION_UNITS).ok_or_else(|| unreadable(text, DURATION_HINT))?;
        // "30s2m" and "5s5s" are slips, not durations.
        if scale >= smallest {
            return Err(unreadable(text, DURATION_HINT));
        }
        smallest = scale;
        total = number
            .checked_mul(scale)
            .and_then(|part| total.checked_add(part))
            .ok_or("is too large: write a smaller value")?;
        rest = tail;
        if rest.is_empty() {
            return Ok(Duration::from_millis(total));
        }
    }
}

/// Parses `"10KB"`, `"1 MB"`, `"512B"` into bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    match split_quantity(text.trim()) {
        Some((number, unit, "")) => {
            let scale = scale_of(unit, &SIZE_UNITS).ok_or_else(|| unreadable(text, SIZE_HINT))?;
            number.checked_mul(scale).ok_or_else(|| "is too large: write a smaller value".to_owned())
        }
        _ => Err(unreadable(text, SIZE_HINT)),
    }
}

/// What to say about a number where a duration is needed.
pub(super) fn bare_duration(number: i64) -> String {
    unreadable(&number.to_string(), DURATION_HINT)
}

/// What to say about a number where a size is needed.
pub(super) fn bare_size(number: i64) -> String {
    unreadable(&number.to_string(), SIZE_HINT)
}

/// Writes a duration in the largest unit that divides it.
pub(super) fn format_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = DURATION_UNITS.iter().rev().find(|(_, scale)| milliseconds.is_multiple_of(*scale));
    match unit {
        Some((unit, scale)) if milliseconds > 0 => format!("{}{unit}", milliseconds / scale),
        _ => "0s".to_owned(),
    }
}

/// Writes a size in the largest unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    let unit =
        SIZE_UNITS.iter().rev().find(|(name, scale)| !name.contains('i') && bytes.is_multiple_of(*scale));
    match unit {
        Some((unit, scale)) if bytes > 0 => format!("{}{unit}", bytes / scale),
        _ => "0B".to_owned(),
    }
}

fn unreadable(text: &str, hint: &str) -> String {
    format!("{text:?} {hint}")
}

fn scale_of(unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale)
}

/// Splits `"2m30s"` into `(2, "m", "30s")`.
fn split_quantity(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..letters], rest[letters..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("2m30s", 150_000),
            ("1h 30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "30 seconds", "30s2m", "5s5s", "1d", "ms"] {
            let message = parse_duration(text).expect_err(text);
            assert!(message.contains("needs a unit"), "{text}: {message}");
        }
        assert_eq!(
            parse_duration("99999999999999999h"),
            Err("is too large: write a smaller value".to_owned())
        );
    }

    #[test]
    fn sizes_carry_units() {
        for (text, bytes) in [
            ("512B", 512),
            ("10KB", 10_240),
            ("10kb", 10_240),
            ("10 KiB", 10_240),
            ("1MB", 1 << 20),
            ("2MiB", 2 << 20),
            ("1GB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "KB", "-1KB", "1.5MB", "1MB512KB", "10 bytes"] {
            let message = parse_size(text).expect_err(text);
            assert!(message.contains("needs a unit"), "{text}: {message}");
        }
        assert_eq!(parse_size("99999999999999999GB"), Err("is too large: write a smaller value".to_owned()));
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0s", "500ms", "90s", "2m", "1h"] {
            assert_eq!(format_duration(parse_duration(text).expect("valid")), text);
        }
        for text in ["0B", "512B", "1500B", "100KB", "1MB"] {
            assert_eq!(format_size(parse_size(text).expect("valid")), text);
        }
    }
}
