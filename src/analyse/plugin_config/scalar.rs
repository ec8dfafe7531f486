//! What a scalar is to the device plugin: YAML 1.1 as go.yaml.in/yaml/v2 resolves it
//! (`resolve.go`), which is below sigs.k8s.io/yaml 1.6.

use std::fmt;

/// A scalar that is not after `|` or `>`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// Both of Go's int64 and uint64.
    Int(i128),
    Float(f64),
    Text(String),
}

/// As JSON would write it, text without its quotes.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl Scalar {
    /// By its text, by whether it stands without quotes, and by its `!!` tag.
    pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Self {
        match tag {
            None if plain => Self::plain(text),
            Some("bool" | "int" | "float" | "null") => Self::plain(text),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Self::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => return Self::Bool(false),
            _ => {}
        }
        let number = match text.as_bytes() {
            [b'.', ..] => float(text),
            [b'+' | b'-' | b'0'..=b'9', ..] => {
                let digits = text.replace('_', "");
                int(&digits).or_else(|| float(&digits))
            }
            _ => None,
        };
        number.unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// The whole number that Go's JSON reads into an `int`: `4`, `0x4` and `4.0`, not `"4"`.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => i64::try_from(*value).ok(),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the value is whole and within 2^53 of zero"
            )]
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
            _ => None,
        }
    }

    /// What it is, for a sentence.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number with a fraction or an exponent",
            Self::Text(_) => "a text",
        }
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then its `ParseUint`: prefixes set the base.
fn int(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, base) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    if !digits.starts_with(|first: char| first.is_digit(base)) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&value)
        .then_some(Scalar::Int(value))
}

/// `yamlStyleFloat` of `resolve.go`. Infinities have no JSON, and stay text here.
fn float(text: &str) -> Option<Scalar> {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let shaped = body.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && body
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let value: f64 = shaped.then(|| text.parse().ok())??;
    value.is_finite().then_some(Scalar::Float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_yaml_1_1_says() {
        let text = |text: &str| Scalar::Text(text.into());
        for (written, is) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("off", Scalar::Bool(false)),
            ("none", text("none")),
            ("4", Scalar::Int(4)),
            ("-4", Scalar::Int(-4)),
            ("+4", Scalar::Int(4)),
            ("1_000", Scalar::Int(1000)),
            ("010", Scalar::Int(8)),
            ("0x10", Scalar::Int(16)),
            ("0b11", Scalar::Int(3)),
            ("08", Scalar::Float(8.0)),
            ("4.0", Scalar::Float(4.0)),
            ("4e2", Scalar::Float(400.0)),
            (".5", Scalar::Float(0.5)),
            ("4Gi", text("4Gi")),
            ("0:0", text("0:0")),
            ("-", text("-")),
            ("v1", text("v1")),
            ("18446744073709551615", Scalar::Int(u64::MAX.into())),
        ] {
            assert_eq!(Scalar::resolve(written, true, None), is, "{written}");
        }
        assert_eq!(Scalar::resolve("4", false, None), text("4"));
        assert_eq!(Scalar::resolve("4", true, Some("str")), text("4"));
        assert_eq!(Scalar::resolve("4", false, Some("int")), Scalar::Int(4));
    }

    #[test]
    fn whole_numbers_are_told_from_others() {
        for (written, is) in [
            ("4", Some(4)),
            ("4.0", Some(4)),
            ("4.5", None),
            ("true", None),
            ("1e30", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(
                Scalar::resolve(written, true, None).as_int(),
                is,
                "{written}"
            );
        }
        assert_eq!(Scalar::Text("4".into()).as_int(), None);
    }
}
