//! Events as `events.k8s.io/v1` has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_micros;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::model::PodEvent;

const CONTROLLER: &str = "slicewatch";
/// The API server takes no longer note, in bytes.
const MOST_NOTE: usize = 1024;
/// The same of who reports.
const MOST_INSTANCE: usize = 128;
/// Of a pod's name in the Event's: all of it may be 253 bytes.
const MOST_NAME: usize = 200;

/// An Event's name: the same of a pod and a code for one stretch of time, so that an agent that was
/// started anew does not tell it again.
pub(super) fn name(event: &PodEvent, now: SystemTime, stretch: Duration) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = since.as_micros() / stretch.as_micros().max(1);
    let text = format!("{} {} {number}", event.uid, event.code);
    let hash = digest(&SHA256, text.as_bytes());
    let hash: String = hash
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let pod = cut(&event.pod, MOST_NAME).trim_end_matches(['-', '.']);
    format!("{pod}.{hash}")
}

/// The object.
pub(super) fn event(event: &PodEvent, name: &str, node: Option<&str>, now: SystemTime) -> Vec<u8> {
    let PodEvent {
        namespace,
        pod,
        uid,
        code,
        note,
    } = event;
    let instance = match node {
        Some(node) => format!("{CONTROLLER}-{node}"),
        None => CONTROLLER.to_owned(),
    };
    let object = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": format_rfc3339_micros(now).to_string(),
        "type": "Warning",
        "reason": reason(code),
        "action": "Found",
        "note": cut(note, MOST_NOTE),
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": pod,
            "uid": uid,
        },
        "reportingController": CONTROLLER,
        "reportingInstance": cut(&instance, MOST_INSTANCE),
    });
    object.to_string().into_bytes()
}

/// What says of an Event that it happened so often.
pub(super) fn series(count: u32, now: SystemTime) -> Value {
    json!({"series": {
        "count": count,
        "lastObservedTime": format_rfc3339_micros(now).to_string(),
    }})
}

/// `noisy_neighbour` as `NoisyNeighbour`.
fn reason(code: &str) -> String {
    let words = code.split('_').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// As much of the text as fits, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    match text.len() <= most {
        true => text,
        false => &text[..text.floor_char_boundary(most)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodUid;

    fn of(pod: &str, code: &str, note: &str) -> PodEvent {
        PodEvent {
            namespace: "team-a".into(),
            pod: pod.into(),
            uid: PodUid::new("6d0f2d5e-0000-4000-8000-000000000001"),
            code: code.into(),
            note: note.to_owned(),
        }
    }

    #[test]
    fn an_event_is_what_the_api_server_takes() {
        let long = of(&"p".repeat(253), "noisy_neighbour", &"é".repeat(2000));
        let name = name(&long, UNIX_EPOCH, Duration::from_secs(3600));
        assert!(name.len() <= 253 && !name.contains(['_', '/']), "{name}");
        let object = event(&long, &name, Some(&"n".repeat(253)), UNIX_EPOCH);
        let object: Value = serde_json::from_slice(&object).unwrap();
        assert_eq!(object["reason"], "NoisyNeighbour");
        assert_eq!(object["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            object["regarding"]["namespace"],
            object["metadata"]["namespace"]
        );
        assert_eq!(object["note"].as_str().unwrap().len(), 1024);
        assert_eq!(object["reportingInstance"].as_str().unwrap().len(), 128);
    }

    #[test]
    fn a_name_is_of_pod_code_and_hour() {
        let hour = Duration::from_secs(3600);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let one = of("a", "x", "1");
        assert_eq!(
            name(&one, at(0), hour),
            name(&of("a", "x", "2"), at(3599), hour)
        );
        for (other, seconds) in [(of("a", "x", "1"), 3600), (of("a", "y", "1"), 0)] {
            assert_ne!(name(&one, at(0), hour), name(&other, at(seconds), hour));
        }
    }

    #[test]
    fn reasons_are_camel_case() {
        for (code, wanted) in [
            ("noisy_neighbour", "NoisyNeighbour"),
            ("a", "A"),
            ("", ""),
            ("a__b", "AB"),
        ] {
            assert_eq!(reason(code), wanted);
        }
    }
}
