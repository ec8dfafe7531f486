//! Text that means nothing to HTML or SVG.

use std::fmt::{self, Display, Write};

/// Text for elements and for attributes in quotes. Characters that no document may hold, and the
/// marks that turn the direction of text or have no width, are written out: a name can neither add
/// markup nor look like another one.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                hidden if misleads(hidden) => write!(f, "{}", hidden.escape_default())?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, marks of direction and of no width, and noncharacters.
fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        let cases = [
            (
                "<script>alert('1')</script>&\"",
                "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;",
            ),
            ("a\nb\u{0}", "a\\nb\\u{0}"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("🦀 é", "🦀 é"),
        ];
        for (text, wanted) in cases {
            assert_eq!(Escaped(text).to_string(), wanted);
        }
    }
}
