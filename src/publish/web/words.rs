//! Figures as people read them. What is not known says so, and why; it is never 0.

use std::fmt::{self, Display};

use crate::model::{Bytes, CanaryReason, Cause, Moment, Reading, SignedBytes};
use crate::publish::escape::Escaped;

/// Between a number and its unit: they stay on one line.
const JOIN: char = '\u{a0}';

/// What stands where nothing can be known.
pub(super) fn unknown(why: &str) -> String {
    format!("<span class=\"unknown\">unknown ({})</span>", Escaped(why))
}

/// What stands where this set-up cannot tell.
pub(super) fn untold(why: &str) -> String {
    format!("<span class=\"unknown\">{}</span>", Escaped(why))
}

/// A reading as HTML: its value by `tell`, or why there is none; `absent` is said where there can be
/// none.
pub(super) fn reading<T>(
    reading: &Reading<T>,
    absent: &str,
    tell: impl FnOnce(&T) -> String,
) -> String {
    match reading {
        Reading::Value(value) => tell(value),
        Reading::Unsupported => untold(absent),
        Reading::Failed(cause) => unknown(&words(*cause)),
    }
}

/// A cause as words.
pub(super) fn words(cause: Cause) -> String {
    cause.label().replace('_', " ")
}

/// Why a canary is as it is.
pub(super) const fn reason(reason: CanaryReason) -> &'static str {
    match reason {
        CanaryReason::Shared => "tenants share this GPU",
        CanaryReason::Forced => "it was asked for on every GPU",
        CanaryReason::Starting => "its worker is starting",
        CanaryReason::Calibrating => "the GPU's clock is being tied to the host's",
        CanaryReason::LowMemory => "free memory came near the floor",
        CanaryReason::OutOfMemory => "its own context did not fit",
        CanaryReason::ProbeOutstanding => "a probe has not started",
        CanaryReason::CallHung => "a call into the driver does not return",
        CanaryReason::Disabled => "switched off",
        CanaryReason::NotYet => "nothing is known of the GPU yet",
        CanaryReason::NoTenant => "nobody is on this GPU",
        CanaryReason::NotShared => "this GPU is not shared",
        CanaryReason::ExclusiveProcess => "the compute mode allows one process",
        CanaryReason::Mig => "this MIG instance was not chosen for it",
        CanaryReason::Mps => "not asked for under MPS",
        CanaryReason::GpuDown => "the GPU does not answer",
        CanaryReason::NoLibrary => "there is no CUDA library",
        CanaryReason::OldDriver => "the driver's CUDA is too old",
        CanaryReason::Failed => "CUDA refused; tried again later",
    }
}

/// Binary units, the number and its unit on one line.
pub(super) fn bytes(bytes: Bytes) -> String {
    bytes.to_string().replace(' ', "\u{a0}")
}

/// The same of a chart's value.
pub(super) fn rough_bytes(value: f64) -> String {
    bytes(Bytes(value.max(0.0) as u64))
}

/// A difference of sizes with its sign.
pub(super) fn signed(difference: SignedBytes) -> String {
    let sign = if difference.0 < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", bytes(Bytes(difference.0.unsigned_abs())))
}

/// A share of a whole in percent; that of a time is never over it but for the grain of sampling.
pub(super) fn share(share: f32) -> String {
    let percent = share.clamp(0.0, 1.0) * 100.0;
    if percent > 0.0 && percent < 0.95 {
        format!("{percent:.1}{JOIN}%")
    } else {
        format!("{percent:.0}{JOIN}%")
    }
}

/// Seconds of waiting, in the unit that suits them, to three digits.
pub(super) fn delay(seconds: f64) -> String {
    let millis = seconds * 1e3;
    if seconds >= 1.0 {
        format!("{seconds:.1}{JOIN}s")
    } else if millis >= 99.95 {
        format!("{millis:.0}{JOIN}ms")
    } else if millis >= 9.995 {
        format!("{millis:.1}{JOIN}ms")
    } else if millis >= 0.1 {
        format!("{millis:.2}{JOIN}ms")
    } else {
        format!("{:.0}{JOIN}µs", seconds * 1e6)
    }
}

/// The same without digits that say nothing, for a scale.
pub(super) fn tick(seconds: f32) -> String {
    let words = delay(seconds.into());
    match words.split_once(JOIN) {
        Some((number, unit)) if number.contains('.') => {
            let short = number.trim_end_matches('0').trim_end_matches('.');
            format!("{short}{JOIN}{unit}")
        }
        _ => words,
    }
}

/// A length of time, such as `14 min 5 s`.
pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}{JOIN}s"),
        (0, minutes, 0) => format!("{minutes}{JOIN}min"),
        (0, minutes, seconds) => format!("{minutes}{JOIN}min {seconds}{JOIN}s"),
        (hours, minutes, _) => format!("{hours}{JOIN}h {minutes}{JOIN}min"),
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number}{JOIN}{one}{plural}")
}

/// An instant's wall clock, as `<time>` wants it.
pub(super) struct Utc(pub(super) Moment);

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unix.as_secs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days to civil date, counted from 1 March of the year 0 so that leap days come last.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// A name for links that a restart of the agent does not change: of the parts, whatever is in them.
pub(super) fn anchor<'a>(kind: char, parts: impl IntoIterator<Item = &'a str>) -> String {
    // FNV-1a; no name can hold the byte between two parts.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{kind}{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        for (seconds, wanted) in [
            (0.0, "0 µs"),
            (18e-6, "18 µs"),
            (0.000_46, "0.46 ms"),
            (1.424e-3, "1.42 ms"),
            (0.0123, "12.3 ms"),
            (0.25, "250 ms"),
            (20.25, "20.2 s"),
        ] {
            assert_eq!(delay(seconds).replace(JOIN, " "), wanted);
        }
        for (seconds, wanted) in [
            (0.005, "5 ms"),
            (0.0025, "2.5 ms"),
            (0.5, "500 ms"),
            (2.0, "2 s"),
        ] {
            assert_eq!(tick(seconds).replace(JOIN, " "), wanted);
        }
        for (part, wanted) in [
            (0.0, "0 %"),
            (0.004, "0.4 %"),
            (0.724, "72 %"),
            (1.02, "100 %"),
        ] {
            assert_eq!(share(part).replace(JOIN, " "), wanted);
        }
        for (seconds, wanted) in [
            (0, "0 s"),
            (60, "1 min"),
            (845, "14 min 5 s"),
            (7300, "2 h 1 min"),
        ] {
            assert_eq!(duration(seconds).replace(JOIN, " "), wanted);
        }
    }

    #[test]
    fn unknown_is_not_zero_and_says_why() {
        let tell = |value: &Bytes| bytes(*value);
        assert_eq!(reading(&Reading::Value(Bytes(0)), "-", tell), "0\u{a0}B");
        assert!(
            reading(&Reading::Failed(Cause::GpuLost), "-", tell).contains("unknown (gpu lost)")
        );
        assert!(reading(&Reading::Unsupported, "not under MIG", tell).contains("not under MIG"));
    }

    #[test]
    fn instants_show_as_dates() {
        let at = |seconds| Moment {
            unix: Duration::from_secs(seconds),
            ..Moment::default()
        };
        assert_eq!(Utc(at(951_868_799)).to_string(), "2000-02-29 23:59:59Z");
        assert_eq!(Utc(at(1_795_255_384)).to_string(), "2026-11-21 10:03:04Z");
    }

    #[test]
    fn anchors_tell_names_apart_and_stay() {
        assert_eq!(anchor('p', ["a", "bc"]), anchor('p', ["a", "bc"]));
        assert_ne!(anchor('p', ["a", "bc"]), anchor('p', ["ab", "c"]));
        assert_eq!(anchor('g', ["GPU-1"]).len(), 17);
    }
}
