//! Which form a client gets, by its `Accept` and `Accept-Encoding`.

use crate::publish::metrics::Format;

/// One entry of an `Accept` header, its quality taken out of the parameters.
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// Thousandths, from 0 to 1000.
    quality: u16,
}

fn offers<'a>(headers: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Offer<'a>> {
    headers.flat_map(|header| header.split(',')).map(|entry| {
        let mut parts = entry.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let mut quality = 1000;
        let mut parameters = Vec::new();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key.eq_ignore_ascii_case("q") {
                quality = thousandths(value);
            } else {
                parameters.push((key, value));
            }
        }
        Offer {
            name,
            parameters,
            quality,
        }
    })
}

/// A quality; one that is none counts as refusal, as what cannot be read is not asked for.
fn thousandths(value: &str) -> u16 {
    match value.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0).round() as u16,
        _ => 0,
    }
}

impl Offer<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// True where the parameter is this one, or is not there.
    fn allows(&self, key: &str, wanted: &str) -> bool {
        self.parameters
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(key))
            .all(|(_, value)| value.eq_ignore_ascii_case(wanted))
    }

    /// What we have for it. `escaping` and `charset` change nothing: all names are plain ASCII
    /// and all text is UTF-8.
    fn format(&self) -> Option<Format> {
        if self.is("application/openmetrics-text") || self.is("application/*") {
            self.allows("version", "1.0.0")
                .then_some(Format::OpenMetrics)
        } else if self.is("text/plain") || self.is("text/*") || self.is("*/*") {
            self.allows("version", "0.0.4").then_some(Format::Text)
        } else if self.is("application/vnd.google.protobuf") {
            let known = self.allows("proto", "io.prometheus.client.MetricFamily")
                && self.allows("encoding", "delimited");
            known.then_some(Format::Protobuf)
        } else {
            None
        }
    }
}

/// The form of metrics for these `Accept` headers: of the highest quality, at a tie the one
/// named first; text 0.0.4 where nothing we have is asked for, as Prometheus' rules want.
pub fn format<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let mut best = (0, Format::Text);
    for offer in offers(accept) {
        if let Some(format) = offer.format()
            && offer.quality > best.0
        {
            best = (offer.quality, format);
        }
    }
    best.1
}

/// Whether these `Accept-Encoding` headers take gzip, and not rather the plain body.
pub fn accepts_gzip<'a>(accept_encoding: impl Iterator<Item = &'a str>) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for offer in offers(accept_encoding) {
        let quality = Some(offer.quality);
        if offer.is("gzip") || offer.is("x-gzip") {
            gzip = quality;
        } else if offer.is("*") {
            any = quality;
        } else if offer.is("identity") {
            identity = quality;
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(accept: &str) -> Format {
        format([accept].into_iter())
    }

    #[test]
    fn real_and_odd_accept_headers() {
        use Format::{OpenMetrics, Protobuf, Text};
        let cases = [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            // Prometheus 2.42 with native histograms.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Protobuf,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            // Prometheus 3 with PrometheusProto first.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Protobuf,
            ),
            // Prometheus 3 with fallback to text only.
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Text,
            ),
            // curl, browsers.
            ("*/*", Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Text,
            ),
            ("", Text),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text; version=\"1.0.0\"",
                OpenMetrics,
            ),
            ("Application/OpenMetrics-Text; Version=1.0.0", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Text),
            ("application/openmetrics-text;version=1.0.0;q=0", Text),
            ("application/openmetrics-text;q=nonsense", Text),
            ("application/openmetrics-text;q=7", Text),
            ("text/plain, application/openmetrics-text", Text),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Text,
            ),
            (
                "application/vnd.google.protobuf;proto=other;encoding=delimited",
                Text,
            ),
            ("image/png", Text),
            (";;;,=,;q=", Text),
        ];
        for (accept, wanted) in cases {
            assert_eq!(of(accept), wanted, "{accept}");
        }
        let several = ["text/plain;q=0.1", "application/openmetrics-text"];
        assert_eq!(format(several.into_iter()), OpenMetrics);
        assert_eq!(format(std::iter::empty()), Text);
    }

    #[test]
    fn gzip_is_used_where_it_is_taken() {
        let cases = [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity, gzip;q=0.5", false),
            ("identity;q=0.5, gzip;q=1.0", true),
            ("deflate", false),
            ("", false),
        ];
        for (header, wanted) in cases {
            assert_eq!(accepts_gzip([header].into_iter()), wanted, "{header}");
        }
        assert!(!accepts_gzip(std::iter::empty()));
    }

    proptest! {
        /// Any header at all gives some form, and never a panic.
        #[test]
        fn any_header_gives_a_form(header in "\\PC{0,80}") {
            of(&header);
            accepts_gzip([header.as_str()].into_iter());
        }
    }
}
