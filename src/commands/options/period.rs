//! A length of time as flags and files have it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A length of time such as `100ms`, `3s`, `1m 30s`: positive, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = humantime::parse_duration(text).map_err(|error| {
            format!("{text:?} is not a length of time ({error}); write a positive number with its unit, such as 100ms, 3s or 1m")
        })?;
        if duration.is_zero() {
            return Err(format!(
                "{text:?} is zero; write a positive length of time such as 100ms"
            ));
        }
        Ok(Self(duration))
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}
