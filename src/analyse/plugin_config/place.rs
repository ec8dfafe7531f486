//! From bytes of a configuration to lines and columns of the file it stands in.

use std::ops::Range;

/// The lines of a file, which end as YAML's do: by `\n`, `\r\n` or `\r`.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = |at: usize| {
            bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        };
        // A byte order mark is no character of the first line.
        let first = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let starts = std::iter::once(first)
            .chain((0..bytes.len()).filter(|at| ends(*at)).map(|at| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Line and column of a byte, both from one; the column counts characters.
    pub(super) fn place(&self, at: usize) -> (u32, u32) {
        let line = self.line(at);
        let start = self.starts[line];
        let before = self.text.get(start..at.max(start)).unwrap_or_default();
        let from_one = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        (from_one(line), from_one(before.chars().count()))
    }

    fn line(&self, at: usize) -> usize {
        self.starts
            .partition_point(|start| *start <= at)
            .saturating_sub(1)
    }
}

/// Where in its file a configuration's text stands.
#[derive(Debug)]
pub(super) enum Origin {
    /// The file is the configuration.
    File,
    /// After `|` or `>`: its lines, in order, each without its indentation.
    Block(Vec<Segment>),
    /// Within quotes or on the key's line, whose place stands for all of it.
    At(usize),
}

/// A line of a block scalar.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its first byte in the scalar's value.
    inner: usize,
    /// The same byte in the file.
    outer: Range<usize>,
}

impl Origin {
    /// A block scalar's, from its value and from where its text stands. Whether the value folds
    /// line ends (`>`) or keeps them (`|`), each line's text is in it word for word and in order.
    pub(super) fn block(file: &str, value: &str, span: Range<usize>) -> Self {
        let mut segments = Vec::new();
        let before = file.get(..span.start).unwrap_or_default();
        let mut outer = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let indent = span.start - outer;
        let mut inner = 0;
        for part in file
            .get(outer..span.end)
            .unwrap_or_default()
            .split_inclusive(['\n', '\r'])
        {
            let line = part.trim_end_matches(['\n', '\r']);
            let blank = line.len() - line.trim_start_matches(' ').len();
            let cut = indent.min(blank);
            let text = &line[cut..];
            if !text.is_empty() {
                let Some(at) = find(value, inner, text) else {
                    break;
                };
                segments.push(Segment {
                    inner: at,
                    outer: outer + cut..outer + line.len(),
                });
                inner = at + text.len();
            }
            outer += part.len();
        }
        if segments.is_empty() {
            return Self::At(span.start);
        }
        Self::Block(segments)
    }

    /// The file's byte of a byte of the configuration.
    pub(super) fn outer(&self, at: usize) -> usize {
        match self {
            Self::File => at,
            Self::At(key) => *key,
            Self::Block(segments) => {
                let next = segments.partition_point(|segment| segment.inner <= at);
                let segment = &segments[next.saturating_sub(1)];
                let into = at.saturating_sub(segment.inner);
                segment.outer.end.min(segment.outer.start + into)
            }
        }
    }
}

/// Where `text` stands in `value`, past the breaks and the fold from `from` on.
fn find(value: &str, from: usize, text: &str) -> Option<usize> {
    let rest = value.get(from..)?;
    let breaks = rest.len() - rest.trim_start_matches(['\n', ' ']).len();
    (from..=from + breaks).find(|at| value[*at..].starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_by_characters() {
        let lines = Lines::new("\u{feff}a\r\né: x\rb\n");
        for (at, place) in [
            (0, (1, 1)),
            (3, (1, 1)),
            (6, (2, 1)),
            (10, (2, 4)),
            (12, (3, 1)),
        ] {
            assert_eq!(lines.place(at), place, "{at}");
        }
        assert_eq!(lines.place(999).0, 4);
        assert_eq!(Lines::new("").place(0), (1, 1));
    }

    /// Where each `x` of the value stands in the file.
    #[track_caller]
    fn check(file: &str, value: &str, places: &[(u32, u32)]) {
        let start = file
            .find(value.trim_start().chars().next().unwrap())
            .unwrap();
        let origin = Origin::block(file, value, start..file.len());
        let lines = Lines::new(file);
        let found: Vec<_> = value
            .match_indices('x')
            .map(|(at, _)| lines.place(origin.outer(at)))
            .collect();
        assert_eq!(found, places);
    }

    #[test]
    fn blocks_map_line_by_line() {
        check(
            "a: |\n\n  b\n\n    x\n  x\n",
            "\nb\n\n  x\nx\n",
            &[(5, 5), (6, 3)],
        );
        check("a: |-\r\n  b\r\n  éx\r\n", "b\néx", &[(3, 4)]);
        check(
            "a: >\n  b\n  x\n\n  x\n   x\n",
            "b x\nx\n x\n",
            &[(3, 3), (5, 3), (6, 4)],
        );
    }
}
