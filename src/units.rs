//! Quantities with their units: bytes, time and shares of processors.
//!
//! One grammar everywhere (contract: "Units"): one number, one unit, no space. A bare number or an
//! ambiguous suffix such as `M` is an error that names the readings.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A share of processors in thousandths: 1500 is one and a half processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct MilliCpus(pub u32);

/// Binary units first, so that a suffix is matched by its longest name.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)];

/// Why a text is not a quantity: what was wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong with the text.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Bytes {
    /// Reads `64MiB`, `1.5GiB`, `500kB`, `10B`.
    ///
    /// # Errors
    /// When the number or the unit is missing or unknown, or the sum does not fit 63 bits.
    pub fn parse(text: &str) -> Result<Bytes, UnitError> {
        let (number, unit) = split(text);
        if let Some((_, factor)) = BYTE_UNITS.iter().find(|(name, _)| *name == unit) {
            return scaled(text, number, *factor).map(Bytes);
        }
        let known = ["B", "KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "TB"];
        let letter = unit.to_ascii_uppercase();
        Err(match letter.trim_end_matches('B') {
            _ if number.is_empty() => no_number(text, "64MiB"),
            "" => UnitError::new("has no unit", format!("write `{number}MiB` or `{number}B`")),
            upper @ ("K" | "M" | "G" | "T") if !letter.ends_with('B') => {
                let decimal = if upper == "K" { "k" } else { upper };
                UnitError::new(
                    format!("has the unit `{unit}`, which can be read in two ways"),
                    format!(
                        "write `{number}{upper}iB` (powers of 1024) or `{number}{decimal}B` (powers of 1000)"
                    ),
                )
            }
            _ => unknown(number, unit, unit, &known),
        })
    }
}

impl Millis {
    /// Reads `250ms`, `30s`, `1.5h`, `10min`.
    ///
    /// # Errors
    /// When the number or the unit is missing or unknown, or the sum does not fit 63 bits.
    pub fn parse(text: &str) -> Result<Millis, UnitError> {
        let (number, unit) = split(text);
        if let Some((_, factor)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) {
            return scaled(text, number, *factor).map(Millis);
        }
        let known = TIME_UNITS.map(|(name, _)| name);
        Err(match unit {
            _ if number.is_empty() => no_number(text, "30s"),
            "" => UnitError::new("has no unit", format!("write `{number}s` or `{number}ms`")),
            "m" => UnitError::new(
                "has the unit `m`, which can be read in two ways",
                format!("write `{number}min` or `{number}ms`"),
            ),
            "sec" | "secs" | "second" | "seconds" => unknown(number, unit, "s", &known),
            "mins" | "minute" | "minutes" => unknown(number, unit, "min", &known),
            "hour" | "hours" | "hr" => unknown(number, unit, "h", &known),
            _ => unknown(number, unit, unit, &known),
        })
    }

    /// The same length as the standard library's type.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl MilliCpus {
    /// Reads `1.5` or `2`.
    ///
    /// # Errors
    /// When the text is no such number, has more than three decimals, or is not from 0.01 (a period of
    /// the kernel's scheduler holds no less, see cpu.cfs_quota_us) to 8192 (the most that Linux runs on).
    pub fn parse(text: &str) -> Result<MilliCpus, UnitError> {
        let error = |wrong: &str| UnitError {
            wrong: wrong.to_owned(),
            right: "a number of processors from 0.01 to 8192, such as 1.5".to_owned(),
        };
        let (number, rest) = split(text);
        let thousandths = match scaled(text, number, 1000) {
            Ok(thousandths) if rest.is_empty() => thousandths,
            _ => return Err(error("is not a number of processors with at most three decimals")),
        };
        match u32::try_from(thousandths) {
            Ok(fits @ 10..=8_192_000) => Ok(MilliCpus(fits)),
            _ => Err(error("is out of range")),
        }
    }
}

impl UnitError {
    fn new(wrong: impl Into<String>, right: impl Into<String>) -> UnitError {
        UnitError {
            wrong: wrong.into(),
            right: right.into(),
        }
    }
}

/// A text that does not begin with a number.
fn no_number(text: &str, example: &str) -> UnitError {
    match text.starts_with('-') {
        true => UnitError::new("is negative", format!("write a quantity such as `{example}`")),
        false => UnitError::new(
            "does not begin with a number",
            format!("write a quantity such as `{example}`"),
        ),
    }
}

/// A unit that is not one, or that is one but for a space or its capitals.
fn unknown(number: &str, unit: &str, meant: &str, known: &[&str]) -> UnitError {
    let meant = known
        .iter()
        .find(|known| known.eq_ignore_ascii_case(meant.trim()));
    UnitError::new(
        format!("has the unknown unit `{unit}`"),
        match meant {
            Some(meant) => format!("write `{number}{meant}`"),
            None => format!("the units are {}", known.join(" ")),
        },
    )
}

/// Cuts a text where its unit begins.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `number` × `factor`, exactly; a fraction that does not come out whole is refused.
fn scaled(text: &str, number: &str, factor: u64) -> Result<u64, UnitError> {
    let bad = |wrong: &str| UnitError {
        wrong: wrong.to_owned(),
        right: format!("write a number such as `64{}`", &text[number.len()..]),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || (number.contains('.') && fraction.is_empty())
        || fraction.contains('.')
        || fraction.len() > 9
    {
        return Err(bad("has no readable number"));
    }
    let overflow = || bad("is too large");
    let whole: u64 = whole.parse().map_err(|_| overflow())?;
    let mut sum = u128::from(whole) * u128::from(factor);
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().map_err(|_| bad("has no readable number"))?;
        let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| overflow())?);
        let part = u128::from(digits) * u128::from(factor);
        if !part.is_multiple_of(scale) {
            return Err(UnitError::new(
                "does not come out whole",
                "write it in a smaller unit, without a fraction",
            ));
        }
        sum += part / scale;
    }
    u64::try_from(sum)
        .ok()
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or_else(overflow)
}

impl fmt::Display for Bytes {
    /// The largest unit that divides the number without a rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = BYTE_UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = fits.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl fmt::Display for Millis {
    /// The largest unit that divides the number without a rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = TIME_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = fits.unwrap_or(&("ms", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_same_quantity() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("500kB", 500_000),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
            assert_eq!(
                Bytes::parse(&Bytes(bytes).to_string()),
                Ok(Bytes(bytes)),
                "{text}"
            );
        }
        for (text, millis) in [
            ("60s", 60_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            ("10min", 600_000),
        ] {
            assert_eq!(Millis::parse(text), Ok(Millis(millis)), "{text}");
            assert_eq!(
                Millis::parse(&Millis(millis).to_string()),
                Ok(Millis(millis)),
                "{text}"
            );
        }
        assert_eq!(MilliCpus(1500).to_string(), "1.5");
        assert_eq!(MilliCpus(2000).to_string(), "2");
    }

    #[test]
    fn a_doubtful_unit_names_its_readings() {
        let error = Bytes::parse("512M").unwrap_err();
        assert_eq!(error.wrong, "has the unit `M`, which can be read in two ways");
        assert_eq!(
            error.right,
            "write `512MiB` (powers of 1024) or `512MB` (powers of 1000)"
        );
        assert_eq!(Bytes::parse("512").unwrap_err().right, "write `512MiB` or `512B`");
        assert_eq!(Millis::parse("5m").unwrap_err().right, "write `5min` or `5ms`");
        assert_eq!(
            Millis::parse("5 s"),
            Err(UnitError::new("has the unknown unit ` s`", "write `5s`"))
        );
        assert_eq!(
            Millis::parse("5 minutes").unwrap_err().wrong,
            "has the unknown unit ` minutes`"
        );
        assert_eq!(Millis::parse("5minutes").unwrap_err().right, "write `5min`");
        assert_eq!(Bytes::parse("64mib").unwrap_err().right, "write `64MiB`");
        assert_eq!(Bytes::parse("64Mb").unwrap_err().right, "write `64MB`");
        assert_eq!(Bytes::parse("-1MiB").unwrap_err().wrong, "is negative");
        assert_eq!(
            Bytes::parse("0.3KiB").unwrap_err().wrong,
            "does not come out whole"
        );
        assert_eq!(
            MilliCpus::parse("0.0001").unwrap_err().wrong,
            "is not a number of processors with at most three decimals"
        );
        assert_eq!(Bytes::parse("99999999999TiB").unwrap_err().wrong, "is too large");
        assert!(
            Bytes::parse("1..5MiB").is_err()
                && Bytes::parse(".MiB").is_err()
                && Bytes::parse("-1MiB").is_err()
        );
    }
}
