//! Log folders to names.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::host::{MAX_ENTRIES, NameBook, RealFiles};
use slicewatch::model::{Cause, ContainerId, Moment, PodUid, Reading};

use super::{Entry, ID_A, ID_B, ScriptedFiles, UID_A, UID_B};

const PODS: &str = "/var/log/pods";
const CONTAINERS: &str = "/var/log/containers";

fn at(seconds: f64) -> Moment {
    Moment::default().later(Duration::from_secs_f64(seconds))
}

/// Pods A and B with one container each, behind a double.
fn two_pods() -> (Arc<ScriptedFiles>, NameBook) {
    let files = Arc::new(ScriptedFiles::default());
    files.folder(
        PODS,
        [
            format!("team-a_train_{UID_A}"),
            format!("team-b_serve_{UID_B}"),
        ],
    );
    files.folder(
        CONTAINERS,
        [
            format!("train_team-a_cuda-{ID_A}.log"),
            format!("serve_team-b_cuda-{ID_B}.log"),
        ],
    );
    let book = NameBook::new(files.clone(), PODS, CONTAINERS);
    (files, book)
}

#[test]
fn a_real_folder_names_pods_and_containers() {
    let root = tempfile::tempdir().unwrap();
    let pod_folder = format!("var/log/pods/team-a_train_{UID_A}/cuda");
    fs::create_dir_all(root.path().join(&pod_folder)).unwrap();
    fs::write(root.path().join(&pod_folder).join("0.log"), "").unwrap();
    fs::create_dir_all(root.path().join("var/log/pods/not a pod")).unwrap();
    let containers = root.path().join("var/log/containers");
    fs::create_dir_all(&containers).unwrap();
    // As the kubelet makes it: a link that leads nowhere from here.
    std::os::unix::fs::symlink(
        format!("/{pod_folder}/0.log"),
        containers.join(format!("train_team-a_cuda-{ID_A}.log")),
    )
    .unwrap();
    let files = Arc::new(RealFiles::new(root.path()));
    let mut book = NameBook::new(files, PODS, CONTAINERS);
    assert!(book.names().pods.is_empty());
    let (names, health) = book.refresh(at(0.0));
    assert_eq!(health, Reading::Value(()));
    assert_eq!(names.pods.len(), 1);
    let pod = &names.pods[&PodUid::new(UID_A)];
    assert_eq!((&*pod.namespace, &*pod.pod), ("team-a", "train"));
    let container = &names.containers[&ContainerId::new(ID_A)];
    assert_eq!((&container.pod, &*container.container), (pod, "cuda"));
    assert!(!container.from_status);
}

#[test]
fn folders_are_listed_twice_a_second_at_most() {
    let (files, mut book) = two_pods();
    let (first, _) = book.refresh(at(1.0));
    assert_eq!(files.reads(), [PODS, CONTAINERS]);
    for seconds in [1.0, 1.25, 1.499, 0.5] {
        let (same, health) = book.refresh(at(seconds));
        assert!(Arc::ptr_eq(&first, &same));
        assert_eq!(health, Reading::Value(()));
        assert!(files.reads().is_empty());
    }
    let (again, _) = book.refresh(at(1.5));
    assert_eq!(files.reads(), [PODS, CONTAINERS]);
    assert!(Arc::ptr_eq(&first, &again), "nothing changed");
}

#[test]
fn pods_come_and_go() {
    let (files, mut book) = two_pods();
    assert_eq!(book.refresh(at(0.0)).0.pods.len(), 2);
    files.folder(PODS, [format!("team-a_train_{UID_A}")]);
    files.folder(CONTAINERS, []);
    let (names, _) = book.refresh(at(1.0));
    assert_eq!((names.pods.len(), names.containers.len()), (1, 0));
}

#[test]
fn without_container_logs_pods_alone_are_named() {
    let (files, mut book) = two_pods();
    files.remove(CONTAINERS);
    let (names, health) = book.refresh(at(0.0));
    assert_eq!(health, Reading::Value(()));
    assert_eq!((names.pods.len(), names.containers.len()), (2, 0));
}

#[test]
fn what_cannot_be_listed_is_told_and_known_names_stay() {
    let (files, mut book) = two_pods();
    book.refresh(at(0.0));
    files.remove(PODS);
    let (names, health) = book.refresh(at(1.0));
    assert_eq!(health, Reading::Failed(Cause::NotFound));
    assert_eq!((names.pods.len(), names.containers.len()), (2, 2));
    files.put(PODS, Entry::Refused(libc::EACCES));
    let (_, health) = book.refresh(at(2.0));
    assert_eq!(health, Reading::Failed(Cause::PermissionDenied));
    // Within the second the failure is what is told.
    assert_eq!(book.refresh(at(2.5)).1, health);
    // One folder refused: the other still counts.
    files.folder(PODS, [format!("team-a_train_{UID_A}")]);
    files.put(CONTAINERS, Entry::Refused(libc::EACCES));
    let (names, health) = book.refresh(at(3.0));
    assert_eq!(health, Reading::Failed(Cause::PermissionDenied));
    assert_eq!((names.pods.len(), names.containers.len()), (1, 2));
}

#[test]
fn two_pods_of_one_name_are_told_by_their_uid() {
    let (files, mut book) = two_pods();
    files.folder(
        PODS,
        [UID_A, UID_B].map(|uid| format!("db_postgres-0_{uid}")),
    );
    let (names, _) = book.refresh(at(0.0));
    assert_eq!(
        names.pods[&PodUid::new(UID_A)],
        names.pods[&PodUid::new(UID_B)]
    );
    assert_eq!(names.pods.len(), 2);
}

#[test]
fn the_book_is_bounded() {
    let (files, mut book) = two_pods();
    let uid = |n: usize| format!("{n:08x}-1fb5-4b34-b5f4-5b1f2d1b6b11");
    files.folder(
        PODS,
        (0..MAX_ENTRIES + 10).map(|n| format!("ns_pod-{n}_{}", uid(n))),
    );
    let (names, _) = book.refresh(at(0.0));
    assert_eq!(names.pods.len(), MAX_ENTRIES);
}
