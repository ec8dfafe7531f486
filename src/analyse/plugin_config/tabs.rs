//! Tabs at the start of lines, which the plugin's YAML refuses even where a line is otherwise empty
//! or a comment, and which the parser here lets pass there.

use std::ops::Range;

/// The first such tab within `range`, which starts at a line's start, outside the `free` places,
/// which are in order and apart from one another.
pub(super) fn first(text: &str, range: Range<usize>, free: &[Range<usize>]) -> Option<usize> {
    let mut line = range.start;
    // What the lines before are indented by: an empty line's tab beyond it may trail a plain scalar,
    // which is taken.
    let mut indent = 0;
    for part in text.get(range)?.split_inclusive(['\n', '\r']) {
        let rest = part.trim_start_matches([' ', '\t']);
        let lead = &part[..part.len() - rest.len()];
        let empty = rest.trim_end_matches(['\n', '\r']).is_empty();
        if let Some(tab) = lead.find('\t')
            && (!empty || tab <= indent)
            && !is_free(line + tab, free)
        {
            return Some(line + tab);
        }
        if !empty {
            indent = lead.len();
        }
        line += part.len();
    }
    None
}

fn is_free(at: usize, free: &[Range<usize>]) -> bool {
    let next = free.partition_point(|range| range.start <= at);
    next > 0 && free[next - 1].contains(&at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_are_found_at_the_start_of_lines_only() {
        for (text, at) in [
            ("a: 1\n", None),
            ("a:\t1 \t\n", None),
            ("a: 1\n\t\nb: 2\n", Some(5)),
            ("a: 1\n \t\nb: 2\n", None),
            ("a:\n  b: 1\n  \t\n", Some(12)),
            ("a: 1\r\n  \t# c\r\n", Some(8)),
            ("\t", Some(0)),
        ] {
            assert_eq!(first(text, 0..text.len(), &[]), at, "{text:?}");
        }
        let text = "a: [\n\t1]\n\tb";
        let inside = 3..8;
        assert_eq!(
            first(text, 0..text.len(), std::slice::from_ref(&inside)),
            Some(9)
        );
    }
}
