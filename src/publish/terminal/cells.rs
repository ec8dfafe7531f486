//! Values as words: unknown is never shown as 0, and names cannot steer the terminal.

use std::borrow::Cow;
use std::fmt::Display;

use comfy_table::Table;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::{Bytes, Cause, Reading, SignedBytes};

/// A table with a rule below its header and nothing else.
pub(in crate::publish) const RULED: &str = "     ──            ";

/// Appends a table's lines, without the blanks at their ends.
pub(in crate::publish) fn push_table(out: &mut String, table: &Table) {
    for row in table.lines() {
        out.push_str(row.trim_end());
        out.push('\n');
    }
}

/// A name with everything that could move the cursor, end the line or hide text written out.
pub(in crate::publish) fn printable(name: &str) -> Cow<'_, str> {
    if !name.chars().any(steers) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if steers(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// A name that fits a table: a long one loses its middle, as ends tell names apart.
pub(super) fn short(name: &str) -> Cow<'_, str> {
    const MOST: usize = 40;
    let name = printable(name);
    if name.width() <= MOST {
        return name;
    }
    Cow::Owned(without_middle(&name, MOST / 2, MOST / 2, "…"))
}

/// The first and the last columns of a text, with a mark for what is left out between them.
pub(super) fn without_middle(text: &str, first: usize, last: usize, mark: &str) -> String {
    fn taken(characters: impl Iterator<Item = char>, mut room: usize) -> Vec<char> {
        let fits = |character: &char| {
            let left = room.checked_sub(character.width().unwrap_or(0));
            room = left.unwrap_or(0);
            left.is_some()
        };
        characters.take_while(fits).collect()
    }
    let head = taken(text.chars(), first);
    let tail = taken(text.chars().rev(), last);
    let joined = head.into_iter().chain(mark.chars());
    joined.chain(tail.into_iter().rev()).collect()
}

/// Control characters, line separators, and the marks that turn the direction of text or have no
/// width. The joiner within emoji is harmless.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A cause as words.
pub(super) fn words(cause: Cause) -> String {
    cause.label().replace('_', " ")
}

/// The value, `-` where there can be none, `? (why)` where it is not known.
pub(super) fn reading<T: Display>(reading: &Reading<T>) -> String {
    match reading {
        Reading::Value(value) => value.to_string(),
        Reading::Unsupported => "-".to_owned(),
        Reading::Failed(cause) => format!("? ({})", words(*cause)),
    }
}

/// A difference of sizes with its sign.
pub(super) fn signed(bytes: SignedBytes) -> String {
    let sign = if bytes.0 < 0 { "-" } else { "" };
    format!("{sign}{}", Bytes(bytes.0.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        let cases = [
            ("train-0", "train-0"),
            ("🦀 é", "🦀 é"),
            ("a\nb", "a\\nb"),
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{200b}", "\\u{200b}"),
        ];
        for (name, wanted) in cases {
            assert_eq!(printable(name), wanted);
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(short("train-0"), "train-0");
        let long = short(&"ab".repeat(126)).into_owned();
        assert_eq!(long, "ab".repeat(10) + "…" + &"ab".repeat(10));
        assert_eq!(short(&"🦀".repeat(100)).width(), 41);
        assert_eq!(short(&"\u{301}".repeat(300)), "\u{301}".repeat(300));
    }

    #[test]
    fn unknown_is_not_zero() {
        assert_eq!(reading(&Reading::Value(Bytes(0))), "0 B");
        assert_eq!(reading::<Bytes>(&Reading::Unsupported), "-");
        let lost: Reading<Bytes> = Reading::Failed(Cause::GpuLost);
        assert_eq!(reading(&lost), "? (gpu lost)");
        assert_eq!(signed(SignedBytes(-(3 << 20))), "-3.0 MiB");
        assert_eq!(signed(SignedBytes(i64::MIN)), "-8388608.0 TiB");
    }
}
