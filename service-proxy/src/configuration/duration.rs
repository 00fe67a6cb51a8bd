//! Durations as Go writes them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration of Go: nanoseconds, which may be negative (`time.Duration`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration such as 30s, 1m30s, 500ms or 0")]
pub struct InvalidDuration(String);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

// === impl Span ===

impl Span {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// So many seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// Whether it is none at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is less than none.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As a duration; none if it is negative.
    pub fn duration(self) -> Duration {
        u64::try_from(self.0).map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// This, or another if this is none.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        if self.is_zero() { other } else { self }
    }
}

/// `time.ParseDuration`: numbers with units, one after the other; `0` needs no unit.
impl FromStr for Span {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0_i64;
        while !rest.is_empty() {
            let (part, after) = part(rest).ok_or_else(invalid)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = after;
        }
        Ok(Self(if negative { -total } else { total }))
    }
}

/// `Duration.String` of Go, as in `1m30s`, `24h0m0s`, `1.5s`, `500ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        if nanos < 1_000_000_000 {
            let (unit, size) = match nanos {
                0 => return f.write_str("0s"),
                1..1_000 => ("ns", 1),
                1_000..1_000_000 => ("µs", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{sign}{}{unit}", decimal(nanos, size));
        }
        let (minutes, nanos) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
        let seconds = decimal(nanos, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{sign}{seconds}s"),
            (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The first number and unit of a text in nanoseconds, and what follows.
fn part(text: &str) -> Option<(i64, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let after_unit = text[unit_at..]
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .map_or(text.len(), |at| unit_at + at);
    let (number, unit) = (&text[..unit_at], &text[unit_at..after_unit]);
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(*size)?;
    let mut scale = *size;
    for digit in fraction.bytes() {
        scale /= 10;
        total = total.checked_add(i64::from(digit - b'0').checked_mul(scale)?)?;
    }
    Some((total, &text[after_unit..]))
}

/// A quotient in decimals without zeros at the end.
fn decimal(number: u64, unit: u64) -> String {
    let (whole, rest) = (number / unit, number % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, printed) in [
            ("30s", Ok("30s")),
            ("1m", Ok("1m0s")),
            ("24h", Ok("24h0m0s")),
            ("1h1m1s1ms", Ok("1h1m1.001s")),
            ("1.5s", Ok("1.5s")),
            (".5s", Ok("500ms")),
            ("500ms", Ok("500ms")),
            ("1500us", Ok("1.5ms")),
            ("1µs", Ok("1µs")),
            ("7ns", Ok("7ns")),
            ("-1s", Ok("-1s")),
            ("0", Ok("0s")),
            ("0s", Ok("0s")),
            ("", Err(())),
            ("30", Err(())),
            ("s", Err(())),
            (".s", Err(())),
            ("1.2.3s", Err(())),
            ("1d", Err(())),
            ("1 s", Err(())),
            ("--1s", Err(())),
            ("99999999999999999999h", Err(())),
        ] {
            let parsed = text.parse::<Span>().map(|span| span.to_string());
            assert_eq!(parsed.as_deref().map_err(|_| ()), printed, "{text:?}");
        }
    }
}
