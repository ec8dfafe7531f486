//! Kubernetes Events on pods, against the fake API server.

use std::collections::BTreeMap;

use slicewatch::analyse::events::Begun;
use slicewatch::collect::cluster::events::{EventsHandle, EventsSettings, start};
use slicewatch::model::{PodEvent, SourceHealth};

use super::pod_events::Events;
use super::*;

/// Events with rights, and an hour of a third of a second.
fn bench(answers: &[u16]) -> (Bench, EventsSettings) {
    let bench = Bench::new();
    bench.api.script().events = Some(Events {
        answers: answers.iter().copied().collect(),
        ..Events::default()
    });
    let access = Access::Kubeconfig(bench.api.kubeconfig(bench.folder.path()));
    let settings = EventsSettings {
        call_timeout: Duration::from_millis(300),
        again_after: Duration::from_millis(300),
        backoff: Duration::from_millis(10),
        ..EventsSettings::new(access, Some(NODE.into()))
    };
    (bench, settings)
}

fn event(pod: &str, uid: &str) -> PodEvent {
    PodEvent {
        namespace: "team-a".into(),
        pod: pod.into(),
        uid: PodUid::new(uid),
        code: "noisy_neighbour".into(),
        note: "others wait. To mend: keep them apart".to_owned(),
    }
}

fn asked(bench: &Bench) -> Vec<(String, String, Value)> {
    bench.api.script().events.as_ref().unwrap().asked.clone()
}

async fn until_asked(bench: &Bench, count: usize) -> Vec<(String, String, Value)> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let asked = asked(bench);
        if asked.len() >= count {
            return asked;
        }
        assert!(Instant::now() < deadline, "not {count}: {asked:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_health(
    handle: &EventsHandle,
    wanted: impl Fn(&SourceHealth) -> bool,
) -> SourceHealth {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let health = handle.health();
        if wanted(&health) {
            return health;
        }
        assert!(Instant::now() < deadline, "{health:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_event_is_made_once_an_hour_and_then_told_as_a_series() {
    let (bench, settings) = bench(&[]);
    let handle = start(settings);
    assert_eq!(handle.health().up, Reading::Value(()));
    for _ in 0..3 {
        handle.tell(event("train-0", A));
    }
    let made = until_asked(&bench, 1).await;
    let (method, path, object) = &made[0];
    assert_eq!(method, "POST");
    assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/team-a/events");
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("train-0."), "{name}");
    assert_eq!(
        object["regarding"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "train-0", "uid": A})
    );
    for (field, wanted) in [
        ("type", "Warning"),
        ("reason", "NoisyNeighbour"),
        ("reportingController", "slicewatch"),
        ("note", "others wait. To mend: keep them apart"),
    ] {
        assert_eq!(object[field], wanted, "{field}");
    }
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(asked(&bench).len(), 1);
    handle.tell(event("train-0", A));
    let (method, path, patch) = &until_asked(&bench, 2).await[1];
    assert_eq!(method, "PATCH");
    assert!(path.ends_with(&name), "{path}");
    assert_eq!(patch["series"]["count"], 4);
    assert!(patch["series"]["lastObservedTime"].is_string());
}

#[tokio::test]
async fn an_event_that_the_server_forgot_is_made_anew() {
    let (bench, settings) = bench(&[201, 404]);
    let handle = start(settings);
    handle.tell(event("train-0", A));
    until_asked(&bench, 1).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    handle.tell(event("train-0", A));
    let methods: Vec<_> = until_asked(&bench, 3)
        .await
        .into_iter()
        .map(|(method, ..)| method)
        .collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
    let health = until_health(&handle, |health| health.last_success.is_some()).await;
    assert!(health.errors.is_empty(), "{health:?}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_with_verb_and_resource_and_heals() {
    let (bench, settings) = bench(&[403, 403]);
    let handle = start(settings);
    handle.tell(event("train-0", A));
    let health = until_health(&handle, |health| health.up.value().is_none()).await;
    for words in [
        "create",
        "events of events.k8s.io",
        "team-a",
        "patch",
        "--events",
    ] {
        assert!(health.detail.contains(words), "{words}: {}", health.detail);
    }
    assert_eq!(health.errors.get("forbidden"), Some(&1));
    handle.tell(event("train-0", A));
    until_health(&handle, |health| health.errors.get("forbidden") == Some(&2)).await;
    handle.tell(event("train-0", A));
    let health = until_health(&handle, |health| health.up.value().is_some()).await;
    assert_eq!(&*health.detail, "");
    assert_eq!(
        asked(&bench).len(),
        3,
        "a refusal is not asked again by itself"
    );
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_and_one_that_has_it_is_believed() {
    let (bench, settings) = bench(&[500, 429, 201, 409]);
    let handle = start(settings);
    handle.tell(event("train-0", A));
    until_asked(&bench, 3).await;
    let health = until_health(&handle, |health| {
        health.up.value().is_some() && !health.errors.is_empty()
    })
    .await;
    assert_eq!(health.errors.get("rejected"), Some(&2));
    handle.tell(event("other-0", B));
    until_asked(&bench, 4).await;
    handle.tell(event("other-0", B));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(asked(&bench).len(), 4, "it is there already");
}

#[tokio::test]
async fn no_more_than_so_many_are_made_in_a_minute() {
    let (bench, settings) = bench(&[]);
    let handle = start(EventsSettings {
        most: 3,
        minute: Duration::from_millis(400),
        ..settings
    });
    let began = Instant::now();
    for pod in 0..7 {
        handle.tell(event(&format!("pod-{pod}"), &format!("uid-{pod}")));
    }
    until_asked(&bench, 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(asked(&bench).len() == 3 || began.elapsed() >= Duration::from_millis(400));
    until_asked(&bench, 7).await;
    assert!(
        began.elapsed() >= Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_hangs_holds_nobody_and_what_does_not_fit_is_counted() {
    let (bench, settings) = bench(&[]);
    bench.api.script().events.as_mut().unwrap().hangs = true;
    let handle = start(settings);
    let began = Instant::now();
    for pod in 0..200 {
        handle.tell(event(&format!("pod-{pod}"), &format!("uid-{pod}")));
    }
    assert!(
        began.elapsed() < Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
    let health = until_health(&handle, |health| health.errors.contains_key("timeout")).await;
    assert!(health.errors["queue_full"] >= 100, "{health:?}");
    assert!(health.up.value().is_none());
}

#[tokio::test]
async fn names_that_are_none_reach_no_server() {
    let (bench, settings) = bench(&[]);
    let handle = start(settings);
    for (namespace, pod) in [
        ("../nodes", "a"),
        ("team-a", "a/b"),
        ("", "a"),
        ("a?b", "c"),
    ] {
        handle.tell(PodEvent {
            namespace: namespace.into(),
            pod: pod.into(),
            ..event("a", A)
        });
    }
    let health = until_health(&handle, |health| health.errors.get("bad_name") == Some(&4)).await;
    assert_eq!(health.up, Reading::Value(()));
    assert!(asked(&bench).is_empty());
}

/// What is told of a scenario: code and pod, with how often, and the notes.
fn told(scenario: &str, seconds: u64) -> BTreeMap<(String, String), Vec<String>> {
    let mut begun = Begun::default();
    let mut told: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for snapshot in crate::top::scenario(scenario, seconds) {
        for event in begun.events(&snapshot) {
            let pod = (event.code.to_string(), event.pod.to_string());
            told.entry(pod).or_default().push(event.note);
        }
    }
    told
}

#[test]
fn a_finding_about_a_pod_is_told_of_it_when_it_begins() {
    let told = told("noisy-neighbour", 300);
    let key = ("noisy_neighbour".to_owned(), "finetune-0".to_owned());
    let notes = &told[&key];
    assert_eq!(notes.len(), 1, "{told:#?}");
    assert!(
        notes[0].contains("waits") && notes[0].contains(". To mend: keep the two apart"),
        "{notes:?}"
    );
    // What is no more than worth knowing is told nowhere else.
    assert!(told.keys().all(|(code, _)| code != "fault_domain_shared"));
}

#[test]
fn pods_whose_processes_ended_for_want_of_memory_are_told() {
    let told = told("memory-hog", 600);
    let ended: Vec<_> = told
        .iter()
        .filter(|((code, _), _)| code == "replicas_treated_as_isolated")
        .collect();
    assert!(!ended.is_empty(), "{told:#?}");
    for ((_, pod), notes) in ended {
        assert!(notes[0].contains("ended while"), "{pod}: {notes:?}");
    }
    let quiet = self::told("quiet", 300);
    assert!(quiet.is_empty(), "{quiet:#?}");
}
