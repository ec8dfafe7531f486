//! A plain page for a person who opens the agent's address.

use std::fmt::{self, Display, Write};

use crate::model::{Cause, Reading, Snapshot};

/// Linked, not inline: the page's policy allows no inline styles.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}
th,td{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
";

/// The page of this snapshot, or of an agent that has none yet.
pub(super) fn page(snapshot: Option<&Snapshot>) -> String {
    let mut out = String::from(HEAD);
    let done = match snapshot {
        None => out.write_str("<p>No snapshot was taken yet.</p>\n"),
        Some(snapshot) => body(&mut out, snapshot),
    };
    // Writing to a String gives no error.
    debug_assert!(done.is_ok());
    out.push_str("</body>\n</html>\n");
    out
}

const HEAD: &str = "\
<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>slicewatch</title>
<link rel=\"stylesheet\" href=\"style.css\">
</head>
<body>
<h1>slicewatch</h1>
<p>What sharing a GPU really costs, by pod.</p>
<ul>
<li><a href=\"metrics\">Metrics</a> for Prometheus</li>
<li><a href=\"api/v1/snapshot\">Snapshot</a> as JSON</li>
<li><a href=\"-/healthy\">Health</a> and <a href=\"-/ready\">readiness</a></li>
</ul>
";

fn body(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let node = snapshot.node.as_deref().unwrap_or("not told");
    let containers: usize = snapshot.gpus.iter().map(|gpu| gpu.containers.len()).sum();
    writeln!(
        out,
        "<p>Version {}, node {}: {} GPU devices, {containers} containers on them.</p>",
        Escaped(&snapshot.build.version),
        Escaped(node),
        snapshot.gpus.len(),
    )?;
    out.write_str(
        "<h2>Sources</h2>\n<table>\n<tr><th>source</th><th>state</th><th>detail</th></tr>\n",
    )?;
    for health in &snapshot.sources {
        let state = match health.up {
            Reading::Value(()) => "up",
            Reading::Unsupported => "not here",
            Reading::Failed(Cause::NotYet) => "not tried yet",
            Reading::Failed(_) => "down",
        };
        writeln!(
            out,
            "<tr><td>{}</td><td>{state}</td><td>{}</td></tr>",
            health.source.label(),
            Escaped(&health.detail),
        )?;
    }
    out.write_str("</table>\n<h2>Findings</h2>\n")?;
    if snapshot.findings.is_empty() {
        return out.write_str("<p>None.</p>\n");
    }
    out.write_str(
        "<table>\n<tr><th>severity</th><th>code</th><th>subject</th><th>evidence</th><th>mend</th></tr>\n",
    )?;
    for finding in &snapshot.findings {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            finding.severity.label(),
            Escaped(&finding.code),
            Escaped(&finding.subject),
            Escaped(&finding.evidence),
            Escaped(&finding.mend),
        )?;
    }
    out.write_str("</table>\n")
}

/// Text that means nothing to HTML, in elements and in quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        let hostile = "<script>alert('1')</script>&\"";
        assert_eq!(
            Escaped(hostile).to_string(),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"
        );
    }

    #[test]
    fn a_page_without_a_snapshot_says_so() {
        let page = page(None);
        assert!(page.contains("No snapshot was taken yet"));
        assert!(page.ends_with("</html>\n"));
    }
}
