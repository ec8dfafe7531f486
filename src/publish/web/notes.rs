//! What should be mended, and whether the agent sees all it should.

use std::fmt::{self, Write};

use super::figures::plain;
use super::words::{Utc, anchor, count, duration, words};
use crate::model::{Cause, Finding, Moment, Reading, Severity, Snapshot};

/// Findings, the gravest first. Each is a line that opens; errors are open, and notes for information
/// are folded together.
pub(super) fn findings(out: &mut String, findings: &[Finding]) -> fmt::Result {
    out.write_str("<section class=\"findings\" aria-labelledby=\"findings\"><h2 id=\"findings\">Findings</h2>\n")?;
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let (grave, notes): (Vec<_>, Vec<_>) = sorted
        .into_iter()
        .partition(|finding| finding.severity != Severity::Info);
    if grave.is_empty() {
        out.write_str("<p class=\"good\">Nothing to mend.</p>\n")?;
    } else {
        list(out, &grave)?;
    }
    if !notes.is_empty() {
        writeln!(
            out,
            "<details id=\"notes\"><summary>{} for information</summary>",
            count(notes.len() as u64, "note")
        )?;
        list(out, &notes)?;
        out.write_str("</details>\n")?;
    }
    out.write_str("</section>\n")
}

fn list(out: &mut String, findings: &[&Finding]) -> fmt::Result {
    out.write_str("<ul>\n")?;
    for finding in findings {
        let severity = finding.severity.label();
        let code = plain(&finding.code.replace('_', " "));
        let id = anchor('f', [&*finding.code, &finding.subject]);
        let open = if finding.severity == Severity::Error {
            " open"
        } else {
            ""
        };
        writeln!(
            out,
            "<li class=\"{severity}\" id=\"l{id}\"><details id=\"{id}\"{open}><summary>\
             <span class=\"severity\">{severity}</span> <b>{code}</b> <code>{}</code></summary>\
             <p>{}</p><p class=\"mend\"><code>{}</code><button type=\"button\" class=\"copy\">Copy\
             <span class=\"hidden\"> how to mend {code}</span></button></p></details></li>",
            plain(&finding.subject),
            plain(&finding.evidence),
            plain(&finding.mend),
        )?;
    }
    out.write_str("</ul>\n")
}

/// The health of what the agent reads.
pub(super) fn sources(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.write_str(
        "<section class=\"sources\" aria-labelledby=\"sources\"><h2 id=\"sources\">Sources</h2>\n\
         <table role=\"table\"><caption class=\"hidden\">What the agent reads, and whether it answers</caption>\
         <thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Source</th>\
         <th role=\"columnheader\" scope=\"col\">State</th><th role=\"columnheader\" scope=\"col\">Last answer</th>\
         <th role=\"columnheader\" scope=\"col\">Detail</th></tr></thead>\n<tbody role=\"rowgroup\">\n",
    )?;
    for health in &snapshot.sources {
        let (class, state) = match health.up {
            Reading::Value(()) => ("good", "up".to_owned()),
            Reading::Unsupported => ("unknown", "not here".to_owned()),
            Reading::Failed(Cause::NotYet) => ("unknown", "not tried yet".to_owned()),
            Reading::Failed(cause) => ("bad", format!("down: {}", words(cause))),
        };
        let last = match health.last_success {
            None => "<span class=\"unknown\">never</span>".to_owned(),
            Some(at) => match snapshot.at.unix.checked_sub(at) {
                Some(ago) => format!("{} ago", duration(ago.as_secs())),
                // The wall clock was set back since.
                None => Utc(Moment {
                    unix: at,
                    ..snapshot.at
                })
                .to_string(),
            },
        };
        writeln!(
            out,
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}</th>\
             <td role=\"cell\"><span class=\"{class}\">{state}</span></td>\
             <td role=\"cell\">{last}</td>\
             <td role=\"cell\">{}</td></tr>",
            health.source.label(),
            plain(&health.detail),
        )?;
    }
    out.write_str("</tbody></table></section>\n")
}
