//! Time is an argument: nobody below `commands` and the sampler threads asks a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One instant on both clocks. Intervals come from `monotonic` alone; `unix` may step.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Since an arbitrary start, never backwards.
    #[serde(rename = "monotonic_seconds", with = "seconds")]
    pub monotonic: Duration,
    /// Since 1970-01-01 UTC, as the wall clock says.
    #[serde(rename = "unix_seconds", with = "seconds")]
    pub unix: Duration,
}

impl Moment {
    /// Time from `earlier` to here, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }

    /// This instant, `by` later on both clocks.
    pub fn later(self, by: Duration) -> Self {
        Self {
            monotonic: self.monotonic + by,
            unix: self.unix + by,
        }
    }
}

/// Durations as a number of seconds, rounded to whole microseconds: so much survives the way
/// through a float in times since 1970, until 2106.
pub mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const MICROSECONDS: f64 = 1e6;

    pub(super) fn to_float(duration: Duration) -> f64 {
        let nanos = duration.subsec_nanos();
        let micros = u128::from(duration.as_secs()) * 1_000_000 + u128::from((nanos + 500) / 1000);
        micros as f64 / MICROSECONDS
    }

    pub(super) fn from_float<E: Error>(seconds: f64) -> Result<Duration, E> {
        let micros = (seconds * MICROSECONDS).round();
        if (0.0..u64::MAX as f64).contains(&micros) {
            Ok(Duration::from_micros(micros as u64))
        } else {
            Err(E::custom(format_args!(
                "{seconds} is no duration in seconds"
            )))
        }
    }

    /// Writes a duration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        to_float(*duration).serialize(serializer)
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// What is no number, is negative, or more than 580 000 years.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        from_float(f64::deserialize(deserializer)?)
    }

    pub mod option {
        //! The same for a duration that may be missing.

        use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

        /// Writes a duration, or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            duration.map(super::to_float).serialize(serializer)
        }

        /// Reads a duration, or null.
        ///
        /// # Errors
        /// As of a duration.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            Option::<f64>::deserialize(deserializer)?
                .map(super::from_float)
                .transpose()
        }
    }

    pub mod reading {
        //! The same for a duration that may be unknown.

        use super::super::super::Reading;
        use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

        /// Writes a reading of a duration.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            reading: &Reading<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            reading.map(super::to_float).serialize(serializer)
        }

        /// Reads a reading of a duration.
        ///
        /// # Errors
        /// As of a duration.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Reading<Duration>, D::Error> {
            Ok(match Reading::<f64>::deserialize(deserializer)? {
                Reading::Value(seconds) => Reading::Value(super::from_float(seconds)?),
                Reading::Unsupported => Reading::Unsupported,
                Reading::Failed(cause) => Reading::Failed(cause),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// An instant of whole microseconds before the year 2106 comes back from JSON as it was.
        #[test]
        fn instants_survive_json(monotonic in 0u64..1 << 45, unix in 0u64..4_294_967_296_000_000) {
            let moment = Moment {
                monotonic: Duration::from_micros(monotonic),
                unix: Duration::from_micros(unix),
            };
            let json = serde_json::to_string(&moment).unwrap();
            prop_assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), moment);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for seconds in ["-1", "1e300", "\"1\"", "null"] {
            let json = format!("{{\"monotonic_seconds\":{seconds},\"unix_seconds\":0}}");
            assert!(serde_json::from_str::<Moment>(&json).is_err(), "{seconds}");
        }
    }
}
