//! `/proc/PID/stat`.

use crate::model::StartTime;

/// What is kept of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat<'bytes> {
    /// Field 2 as it came, without its parentheses: any bytes, spaces and parentheses included.
    pub comm: &'bytes [u8],
    /// Field 3 is `Z` or `X`: the process ended, or its first thread did.
    pub ended: bool,
    /// Field 22.
    pub started: StartTime,
}

impl Stat<'_> {
    /// The name made printable: what is no visible character becomes U+FFFD.
    pub fn printable_name(&self) -> String {
        String::from_utf8_lossy(self.comm)
            .chars()
            .map(|c| {
                if is_printable(c) {
                    c
                } else {
                    char::REPLACEMENT_CHARACTER
                }
            })
            .collect()
    }
}

/// `escape_debug` knows which characters show; it escapes quotes and backslashes besides.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// Reads the text of a `stat` file; `None` where it is not of that form.
pub fn parse_stat(text: &[u8]) -> Option<Stat<'_>> {
    // A process chooses its name, the kernel what follows: the last ')' ends the name.
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = text.get(open + 1..close)?;
    let mut fields = text[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let state = fields.next()?;
    // Field 3 was taken, so 22 is the 19th after it.
    let started = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
    Some(Stat {
        comm,
        ended: matches!(state, b"Z" | b"X" | b"x"),
        started: StartTime(started),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: &[u8] = b"2181 (python3) S 2170 2181 2181 0 -1 4194560 133711 0 0 0 4012 1260 0 0 \
        20 0 14 0 8735241 43093811200 301034 18446744073709551615 1 1 0 0 0 0 0 16781312 2 0 0 0 \
        17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_real_line_gives_name_and_start() {
        let stat = parse_stat(REAL).unwrap();
        assert_eq!(stat.comm, b"python3");
        assert_eq!(stat.started, StartTime(8_735_241));
        assert!(!stat.ended);
    }

    #[test]
    fn names_hold_anything() {
        for (name, shown) in [
            (&b"a b"[..], "a b"),
            (b") R 1 2 (x", ") R 1 2 (x"),
            (b"((()", "((()"),
            (b"", ""),
            (b"tab\there", "tab\u{fffd}here"),
            (b"nl\nhere", "nl\u{fffd}here"),
            (b"bad\xff", "bad\u{fffd}"),
            ("\u{202e}rtl".as_bytes(), "\u{fffd}rtl"),
            ("r\u{e9}\u{1f600}'\"\\".as_bytes(), "r\u{e9}\u{1f600}'\"\\"),
        ] {
            let mut line = b"7 (".to_vec();
            line.extend_from_slice(name);
            line.extend_from_slice(b") Z 1 1 1 0 -1 4 1 0 0 0 4 1 0 0 20 0 14 0 99 4 3\n");
            let stat = parse_stat(&line).unwrap();
            assert_eq!(stat.comm, name);
            assert_eq!(stat.printable_name(), shown);
            assert_eq!(stat.started, StartTime(99));
            assert!(stat.ended);
        }
    }

    #[test]
    fn cut_or_foreign_text_is_refused() {
        for text in [
            &b""[..],
            b"1",
            b"1 (x",
            b"1 )x(",
            b"1 (x) S 1 2 3",
            b"1 (x) S 1 1 1 0 -1 4 1 0 0 0 4 1 0 0 20 0 14 0 notanumber",
            b"1 (x) S 1 1 1 0 -1 4 1 0 0 0 4 1 0 0 20 0 14 0 -5",
        ] {
            assert_eq!(parse_stat(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        /// No bytes make the parser panic.
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_stat(&text).map(|stat| stat.printable_name());
        }

        /// Whatever name a process takes, its start time is the kernel's.
        #[test]
        fn no_name_moves_the_start_time(
            name in proptest::collection::vec(any::<u8>(), 0..16),
            started: u64,
        ) {
            let mut line = b"7 (".to_vec();
            line.extend_from_slice(&name);
            line.extend_from_slice(
                format!(") S 1 1 1 0 -1 4 1 0 0 0 4 1 0 0 20 0 14 0 {started} 4 3 1 1\n").as_bytes(),
            );
            let stat = parse_stat(&line).unwrap();
            prop_assert_eq!(stat.started, StartTime(started));
            prop_assert_eq!(stat.comm, &name[..]);
        }
    }
}
