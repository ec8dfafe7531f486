//! Charts as SVG, made in one place for the page and for reports: pure functions to a string.
//!
//! A chart has no width or height of its own, no colour and no font: all come from the stylesheet by
//! its classes, so that it suits dark and light and any screen. A chart that says something is an
//! image with a title and a description; one beside numbers that say the same is hidden from screen
//! readers. All text is escaped, and there is neither script nor style in it.

mod bars;
mod lines;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use super::escape::Escaped;

pub use bars::{Bar, Segment, bar, ranked, stack};
pub use lines::{Axis, Curve, Mark, Point, lines, spark};

/// What a chart is to those who do not see it.
#[derive(Debug, Clone, Copy)]
pub enum Label<'a> {
    /// An image of its own.
    Image {
        title: &'a str,
        /// What it shows, in a sentence.
        description: &'a str,
    },
    /// Numbers beside it say the same.
    Decoration,
}

impl Label<'_> {
    /// The attributes of the outermost element.
    fn attributes(&self) -> &'static str {
        match self {
            Self::Image { .. } => "role=\"img\"",
            Self::Decoration => "aria-hidden=\"true\" focusable=\"false\"",
        }
    }
}

impl Display for Label<'_> {
    /// The first children.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { title, description } => write!(
                f,
                "<title>{}</title><desc>{}</desc>",
                Escaped(title),
                Escaped(description)
            ),
            Self::Decoration => Ok(()),
        }
    }
}

/// A share of a whole as a percentage of the width, at most all of it; what cannot be told is none.
fn percent(part: f64, whole: f64) -> f64 {
    let share = part / whole;
    if share.is_finite() {
        // Two decimals are a hundredth of a pixel.
        (share.clamp(0.0, 1.0) * 1e4).round() / 1e2
    } else {
        0.0
    }
}

/// Into a String, which gives no error.
fn put(out: &mut String, text: fmt::Arguments<'_>) {
    let done = fmt::Write::write_fmt(out, text);
    debug_assert!(done.is_ok());
}
