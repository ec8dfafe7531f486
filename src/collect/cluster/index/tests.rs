use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::{PodName, PodStatus, Workload};

fn at(seconds: u64) -> Moment {
    Moment {
        monotonic: Duration::from_secs(seconds),
        unix: Duration::ZERO,
    }
}

fn uid(name: &str) -> PodUid {
    PodUid::new(name)
}

fn pod(uid_: &str, name: &str, ids: &[&str]) -> Pod {
    let mut containers: Vec<(ContainerId, Arc<str>)> = ids
        .iter()
        .map(|id| (ContainerId::new(*id), Arc::from("main")))
        .collect();
    containers.sort();
    Pod {
        uid: uid(uid_),
        host_uid: uid(uid_),
        name: PodName {
            namespace: "ml".into(),
            pod: name.into(),
        },
        status: Arc::new(PodStatus {
            uid: uid(uid_),
            qos: "Burstable".into(),
            workload: Workload {
                kind: "Pod".into(),
                name: name.into(),
            },
        }),
        finished: false,
        containers,
    }
}

fn mirror(api: &str, host: &str, name: &str, ids: &[&str]) -> Pod {
    Pod {
        host_uid: uid(host),
        ..pod(api, name, ids)
    }
}

/// The name of the pod that a container is of.
fn pod_of(index: &mut PodIndex, id: &str) -> Option<String> {
    let names = index.names();
    let container = names.containers.get(&ContainerId::new(id))?;
    Some(container.pod.pod.to_string())
}

fn current(index: &mut PodIndex, name: &str) -> Option<String> {
    let name = pod("", name, &[]).name;
    Some(index.names().current.get(&name)?.to_string())
}

#[test]
fn a_deleted_pod_is_known_for_ten_minutes() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "a", &["c1"]), at(0));
    index.delete(&uid("u1"), at(100));
    index.delete(&uid("u1"), at(500));
    index.expire(at(699));
    assert_eq!(pod_of(&mut index, "c1").as_deref(), Some("a"));
    assert!(index.names().statuses.contains_key(&uid("u1")));
    assert_eq!(current(&mut index, "a"), None);
    index.expire(at(700));
    assert_eq!(pod_of(&mut index, "c1"), None);
    assert!(index.is_empty() && *index.names() == PodNames::default());
    index.delete(&uid("never"), at(700));
    index.expire(at(700));
}

#[test]
fn a_restarted_containers_ids_are_all_known() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "a", &["c1"]), at(0));
    index.apply(pod("u1", "a", &["c1", "c2"]), at(10));
    index.apply(pod("u1", "a", &["c2", "c3"]), at(20));
    for id in ["c1", "c2", "c3"] {
        assert_eq!(pod_of(&mut index, id).as_deref(), Some("a"), "{id}");
    }
    index.expire(at(620));
    assert_eq!(pod_of(&mut index, "c1"), None);
    assert_eq!(pod_of(&mut index, "c2").as_deref(), Some("a"));
    assert_eq!(index.ids(), 2);
}

#[test]
fn a_list_ends_what_it_does_not_have() {
    let mut index = PodIndex::new();
    for (uid, name, id) in [("u1", "a", "c1"), ("u2", "b", "c2")] {
        index.apply(pod(uid, name, &[id]), at(0));
    }
    index.begin();
    index.apply(pod("u2", "b", &["c2"]), at(50));
    index.reset(at(51));
    assert_eq!(current(&mut index, "a"), None);
    assert_eq!(current(&mut index, "b").as_deref(), Some("u2"));
    assert_eq!(pod_of(&mut index, "c1").as_deref(), Some("a"));
    index.expire(at(651));
    assert_eq!(pod_of(&mut index, "c1"), None);
    assert_eq!(index.len(), 1);
    // A list that came too early is mended by the next event.
    index.begin();
    index.reset(at(700));
    index.apply(pod("u2", "b", &["c2"]), at(701));
    index.expire(at(5000));
    assert_eq!(current(&mut index, "b").as_deref(), Some("u2"));
}

#[test]
fn a_name_is_the_newer_pods_and_the_older_ones_containers_stay_its_own() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "db-0", &["c1"]), at(0));
    index.apply(pod("u2", "db-0", &["c2"]), at(10));
    assert_eq!(current(&mut index, "db-0").as_deref(), Some("u2"));
    let names = index.names();
    assert_eq!(names.statuses.len(), 2);
    assert_eq!(names.pods.len(), 2);
    index.expire(at(610));
    assert_eq!(pod_of(&mut index, "c1"), None);
    assert_eq!(pod_of(&mut index, "c2").as_deref(), Some("db-0"));
}

#[test]
fn a_finished_pod_is_known_for_ten_minutes_and_keeps_its_name() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "job", &["c1"]), at(0));
    let ended = Pod {
        finished: true,
        ..pod("u1", "job", &["c1"])
    };
    index.apply(ended.clone(), at(10));
    index.apply(ended, at(300));
    assert_eq!(current(&mut index, "job").as_deref(), Some("u1"));
    index.expire(at(610));
    assert!(index.is_empty());
}

#[test]
fn an_id_that_two_pods_claim_names_neither() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "a", &["c1", "c2"]), at(0));
    index.apply(pod("u2", "b", &["c1"]), at(1));
    assert_eq!(pod_of(&mut index, "c1"), None);
    assert_eq!(pod_of(&mut index, "c2").as_deref(), Some("a"));
    index.delete(&uid("u2"), at(2));
    index.expire(at(602));
    assert_eq!(pod_of(&mut index, "c1").as_deref(), Some("a"));
}

#[test]
fn a_static_pod_is_known_by_both_uids_and_its_mirror_may_be_made_anew() {
    let mut index = PodIndex::new();
    index.apply(mirror("u1", "hash", "etcd", &["c1"]), at(0));
    index.delete(&uid("u1"), at(5));
    index.apply(mirror("u2", "hash", "etcd", &["c1"]), at(6));
    let names = index.names();
    for known in ["u1", "u2", "hash"] {
        assert_eq!(&*names.pods[&uid(known)].pod, "etcd", "{known}");
    }
    assert_eq!(names.statuses[&uid("hash")].uid, uid("u2"));
    assert_eq!(current(&mut index, "etcd").as_deref(), Some("hash"));
    assert_eq!(pod_of(&mut index, "c1").as_deref(), Some("etcd"));
}

#[test]
fn no_annotation_takes_another_pods_uid() {
    for order in [["u1", "evil"], ["evil", "u1"]] {
        let mut index = PodIndex::new();
        for which in order {
            match which {
                "u1" => index.apply(pod("u1", "a", &["c1"]), at(0)),
                _ => index.apply(mirror("u2", "u1", "evil", &[]), at(0)),
            }
        }
        let names = index.names();
        assert_eq!(&*names.pods[&uid("u1")].pod, "a");
        assert_eq!(names.statuses[&uid("u1")].uid, uid("u1"));
        assert_eq!(current(&mut index, "evil").as_deref(), Some("u2"));
    }
    // Of two that claim what is nobody's own, neither has it.
    let mut index = PodIndex::new();
    index.apply(mirror("u1", "hash", "etcd", &[]), at(0));
    index.apply(mirror("u2", "hash", "evil", &[]), at(0));
    assert!(!index.names().pods.contains_key(&uid("hash")));
}

#[test]
fn too_many_pods_push_out_what_is_gone_and_then_are_refused() {
    let mut index = PodIndex::new();
    for n in 0..MAX_PODS {
        index.apply(pod(&format!("u{n}"), &format!("p{n}"), &[]), at(n as u64));
    }
    index.delete(&uid("u7"), at(5000));
    index.delete(&uid("u3"), at(5001));
    index.apply(pod("new1", "new1", &["c1"]), at(5002));
    assert!(index.names().pods.contains_key(&uid("u3")));
    assert!(!index.names().pods.contains_key(&uid("u7")));
    index.apply(pod("new2", "new2", &["c2"]), at(5003));
    assert_eq!(index.refused(), 0);
    index.apply(pod("new3", "new3", &["c3"]), at(5004));
    assert_eq!((index.len(), index.refused()), (MAX_PODS, 1));
    assert_eq!(pod_of(&mut index, "c2").as_deref(), Some("new2"));
    assert_eq!(pod_of(&mut index, "c3"), None);
}

#[test]
fn one_pod_that_restarts_for_ever_is_bounded() {
    let mut index = PodIndex::new();
    for n in 0..3 * MAX_CONTAINERS {
        index.apply(pod("u1", "a", &[&format!("c{n}")]), at(n as u64 / 100));
        assert!(index.ids() <= MAX_CONTAINERS);
    }
    assert_eq!(index.refused(), 0);
    let last = format!("c{}", 3 * MAX_CONTAINERS - 1);
    assert_eq!(pod_of(&mut index, &last).as_deref(), Some("a"));
}

#[test]
fn names_are_made_anew_only_when_something_changed() {
    let mut index = PodIndex::new();
    index.apply(pod("u1", "a", &["c1"]), at(0));
    let names = index.names();
    index.apply(pod("u1", "a", &["c1"]), at(1));
    index.begin();
    index.apply(pod("u1", "a", &["c1"]), at(2));
    index.reset(at(2));
    index.expire(at(3));
    assert!(Arc::ptr_eq(&names, &index.names()));
    index.delete(&uid("u1"), at(4));
    assert!(!Arc::ptr_eq(&names, &index.names()));
}

#[derive(Debug, Clone)]
enum Step {
    Apply {
        pod: u8,
        ids: BTreeSet<u8>,
        finished: bool,
    },
    Delete(u8),
    Begin,
    Reset,
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, proptest::collection::btree_set(0u8..12, 0..4), any::<bool>())
            .prop_map(|(pod, ids, finished)| Step::Apply { pod, ids, finished }),
        2 => (0u8..6).prop_map(Step::Delete),
        1 => Just(Step::Begin),
        1 => Just(Step::Reset),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// In whatever order pods come and go, a container id names no other pod than the only one
    /// that ever claimed it, an id that two may have claimed lately names neither of them wrongly,
    /// names point to pods that are held, and nothing is held for longer than it may be.
    #[test]
    fn an_id_never_names_two_pods(steps in proptest::collection::vec((step(), 0u64..400), 0..60)) {
        let mut index = PodIndex::new();
        let mut now = 0;
        // All that ever claimed an id, with the time they last did.
        let mut claims: HashMap<String, HashMap<String, u64>> = HashMap::new();
        let mut expired_at = None;
        for (step, wait) in steps {
            now += wait;
            match step {
                // Pods 0 and 1, and 2 and 3, have one name.
                Step::Apply { pod: number, ids, finished } => {
                    let name = format!("p{}", if number < 4 { number / 2 } else { number });
                    let ids: Vec<String> = ids.iter().map(|id| format!("c{id}")).collect();
                    for id in &ids {
                        claims.entry(id.clone()).or_default().insert(name.clone(), now);
                    }
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    let pod = Pod { finished, ..pod(&format!("u{number}"), &name, &ids) };
                    index.apply(pod, at(now));
                }
                Step::Delete(number) => index.delete(&uid(&format!("u{number}")), at(now)),
                Step::Begin => index.begin(),
                Step::Reset => index.reset(at(now)),
                Step::Expire => {
                    index.expire(at(now));
                    expired_at = Some(now);
                }
            }
            let names = index.names();
            for (id, container) in &names.containers {
                prop_assert!(container.from_status);
                let said = claims[id.as_str()].get(&*container.pod.pod);
                prop_assert!(said.is_some(), "{} was never {}'s", id, container.pod.pod);
            }
            let mut live: HashMap<&PodName, usize> = HashMap::new();
            for known in index.pods.values().filter(|known| !known.deleted) {
                *live.entry(&known.pod.name).or_default() += 1;
            }
            prop_assert!(live.values().all(|count| *count == 1), "{:?}", live);
            for (name, uid) in &names.current {
                prop_assert_eq!(&names.pods[uid], name);
                prop_assert!(names.statuses.contains_key(uid));
            }
            for claimants in claims.values().filter(|claimants| claimants.len() > 1) {
                let ids = claims.iter().filter(|(_, who)| *who == claimants).map(|(id, _)| id);
                for id in ids {
                    let holders: BTreeSet<&str> = index
                        .pods
                        .values()
                        .filter(|known| {
                            let former = known.former.iter().map(|(id, ..)| id);
                            let listed = known.pod.containers.iter().map(|(id, _)| id);
                            former.chain(listed).any(|held| held.as_str() == id)
                        })
                        .map(|known| &*known.pod.name.pod)
                        .collect();
                    let named = names.containers.contains_key(&ContainerId::new(id.as_str()));
                    prop_assert_eq!(named, holders.len() == 1);
                }
            }
            if expired_at == Some(now) {
                for known in index.pods.values() {
                    prop_assert!(known.gone.is_none_or(|since| at(now).since(since) < KEPT));
                    for (.., since) in &known.former {
                        prop_assert!(at(now).since(*since) < KEPT);
                    }
                }
            }
        }
    }
}
