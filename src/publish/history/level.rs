//! A number in two bytes, for charts.

/// A value that is not negative, or nothing known: the upper half of an `f32` without its sign,
/// which is always plus. That leaves eight bits of exponent and eight of fraction: from 1e-38 to
/// 3e38 a value is off by less than 0.2 %, a fifth of a pixel in a chart of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level(u16);

impl Level {
    /// No value.
    pub(super) const UNKNOWN: Self = Self(u16::MAX);
    /// What a finite `f32` comes to at most.
    const MOST: u32 = 0xfeff;
    /// Bits of the fraction that are given up.
    const DROPPED: u32 = 15;

    /// The nearest level; what is negative or no number is unknown.
    pub(super) fn of(value: Option<f64>) -> Self {
        match value {
            Some(value) if value >= 0.0 => {
                let bits = (value.min(f64::from(f32::MAX)) as f32).to_bits();
                let nearest = (bits + (1 << (Self::DROPPED - 1))) >> Self::DROPPED;
                Self(nearest.min(Self::MOST) as u16)
            }
            _ => Self::UNKNOWN,
        }
    }

    /// The value, where one is known.
    pub(super) fn value(self) -> Option<f32> {
        (self != Self::UNKNOWN).then(|| f32::from_bits(u32::from(self.0) << Self::DROPPED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A value comes back within 0.2 %, and a larger one never as a smaller.
        #[test]
        fn values_come_back(value in 1e-30f64..1e30, more in 0.0f64..1e30) {
            let back = Level::of(Some(value)).value().unwrap();
            prop_assert!((f64::from(back) - value).abs() <= value * 0.002);
            prop_assert!(Level::of(Some(value + more)).value().unwrap() >= back);
        }
    }

    #[test]
    fn zero_is_a_value_and_unknown_is_not_zero() {
        assert_eq!(Level::of(Some(0.0)).value(), Some(0.0));
        for unknown in [None, Some(-1.0), Some(f64::NAN)] {
            assert_eq!(Level::of(unknown).value(), None);
        }
        for huge in [f64::MAX, f64::INFINITY] {
            assert!(Level::of(Some(huge)).value().unwrap() > 3e38);
        }
    }
}
