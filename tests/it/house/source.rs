//! Rust source as far as the checks need it: without comments and literals.

/// Source whose comments, strings and characters are blanked.
pub(super) struct Code(String);

/// Blanks comments and literals.
pub(super) fn code_of(text: &str) -> Code {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block(&chars, at),
            '"' => end_of_string(&chars, at),
            'r' if !out.ends_with(is_word) => end_of_raw_string(&chars, at).unwrap_or(at),
            '\'' => end_of_char(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end > at {
            out.push(' ');
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    Code(out)
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| at + length)
}

fn end_of_block(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    let rest = &chars[open + 1..];
    let length = rest.windows(close.len()).position(|part| part == close);
    Some(length.map_or(chars.len(), |length| open + 1 + length + close.len()))
}

/// A character literal, as told from a lifetime.
fn end_of_char(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let length = chars.get(at + 3..)?.iter().position(|c| *c == '\'')?;
        return Some(at + 3 + length + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words and signs, without blanks.
fn tokens(code: &Code) -> Vec<&str> {
    let text = code.0.as_str();
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !token.trim().is_empty() {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// The modules at the crate's root that a file `depth` modules deep names: by `crate::`, or by
/// climbing with `super::`.
pub(super) fn arrows(code: &Code, depth: usize) -> Vec<String> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut climbed = 0;
        while tokens.get(at) == Some(&"super") && tokens.get(at + 1) == Some(&"::") {
            climbed += 1;
            at += 2;
        }
        let rooted = if tokens.get(at) == Some(&"crate") && tokens.get(at + 1) == Some(&"::") {
            at += 2;
            true
        } else {
            climbed > 0 && climbed >= depth
        };
        if rooted {
            found.extend(first_words(&tokens[at..]));
        } else if climbed == 0 {
            at += 1;
        }
    }
    found
}

/// The first segment of a path, or of each path of a group.
fn first_words(tokens: &[&str]) -> Vec<String> {
    if tokens.first() != Some(&"{") {
        return tokens
            .first()
            .map(|word| (*word).to_owned())
            .into_iter()
            .collect();
    }
    let (mut depth, mut fresh, mut words) = (0, true, Vec::new());
    for token in tokens {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => fresh = true,
            word if depth == 1 && fresh => {
                words.push(word.to_owned());
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    words
}

/// Whether there is unsafe code.
pub(super) fn has_unsafe(code: &Code) -> bool {
    tokens(code).contains(&"unsafe")
}

/// Whether something is left for later.
pub(super) fn forbidden_macros(code: &Code) -> bool {
    tokens(code)
        .windows(2)
        .any(|pair| matches!(pair[0], "todo" | "unimplemented") && pair[1] == "!")
}
