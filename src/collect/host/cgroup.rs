//! From `/proc/PID/cgroup` to pod UID and container id.
//!
//! Paths are read by their parts, not from their start: an agent in a cgroup namespace of its own
//! sees `/../../kubepods-…`, and a kubelet may have a cgroup root of its own. The outermost pod
//! part counts, and the outermost container below it: what a tenant nests inside its own cgroup
//! can never name another pod.

use crate::model::{CgroupIdentity, ContainerId, PodUid};

/// Hex digits of a container id.
pub const CONTAINER_ID_LENGTH: usize = 64;

/// Lengths of a pod UID: `8-4-4-4-12`, and the 32 hex digits of a static pod's config hash.
const UID_LENGTHS: [usize; 2] = [36, 32];

/// What the text of `/proc/PID/cgroup` proves, of cgroup v2, v1 or both.
///
/// Lines that name no pod are left aside where another does. Where two lines name different pods
/// nothing is proven and the identity is empty; where they agree on the pod and not on the
/// container, the pod alone is. Without any pod, a container id still stands (a container of the
/// bare machine). Text of another form gives an empty identity.
pub fn parse_cgroup(text: &str) -> CgroupIdentity {
    let mut in_pods = Agreed::default();
    let mut containers_in_pods = Agreed::default();
    let mut containers_outside = Agreed::default();
    for path in text.lines().filter_map(path_of_line) {
        match identify(path) {
            (Some(uid), container) => {
                in_pods.add(uid.replace('_', "-"));
                containers_in_pods.extend(container);
            }
            (None, container) => containers_outside.extend(container),
        }
    }
    match in_pods {
        Agreed::Nothing => CgroupIdentity {
            pod_uid: None,
            container_id: containers_outside.one().map(ContainerId::new),
        },
        Agreed::One(uid) => CgroupIdentity {
            pod_uid: Some(PodUid::new(uid)),
            container_id: containers_in_pods.one().map(ContainerId::new),
        },
        Agreed::Not => CgroupIdentity::default(),
    }
}

/// What several lines say of one thing.
#[derive(Default)]
enum Agreed<T> {
    #[default]
    Nothing,
    One(T),
    Not,
}

impl<T: PartialEq> Agreed<T> {
    fn add(&mut self, word: T) {
        *self = match std::mem::replace(self, Self::Not) {
            Self::Nothing => Self::One(word),
            Self::One(there) if there == word => Self::One(there),
            Self::One(_) | Self::Not => Self::Not,
        };
    }

    fn extend(&mut self, word: Option<T>) {
        if let Some(word) = word {
            self.add(word);
        }
    }

    fn one(self) -> Option<T> {
        match self {
            Self::One(word) => Some(word),
            Self::Nothing | Self::Not => None,
        }
    }
}

/// The path of `N:controllers:/path`. A path may hold colons itself.
fn path_of_line(line: &str) -> Option<&str> {
    let mut fields = line.splitn(3, ':');
    let hierarchy = fields.next()?;
    if hierarchy.is_empty() || !hierarchy.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let path = fields.nth(1)?;
    // The kernel's mark for a cgroup that was removed while the process still ends.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.starts_with('/').then_some(path)
}

/// (pod UID as it stands in the path, container id) of one path.
fn identify(path: &str) -> (Option<&str>, Option<&str>) {
    let mut uid = None;
    let mut container = None;
    for part in path.split('/') {
        // `<slice>:cri-containerd:<id>`: a runtime set up for systemd on a kubelet that is not,
        // or the other way round, takes systemd's notation as a folder's name.
        let (slice, unit) = match part.split_once(':') {
            Some((slice, rest)) => (slice, rest.rsplit(':').next()),
            None => (part, None),
        };
        if uid.is_none()
            && let Some(found) = pod_uid(slice)
        {
            uid = Some(found);
            // What stood above the pod is the node's own container (kind).
            container = None;
        }
        match container_of(unit.unwrap_or(part)) {
            Unit::Container(id) => container = container.or(Some(id)),
            // The monitor of a container is not in it.
            Unit::Monitor => return (uid, None),
            Unit::Other => {}
        }
        if uid.is_some() && container.is_some() {
            break;
        }
    }
    (uid, container)
}

/// The UID in `pod<uid>` or `…-pod<uid>.slice`.
fn pod_uid(part: &str) -> Option<&str> {
    let stem = part.strip_suffix(".slice").unwrap_or(part);
    UID_LENGTHS.into_iter().find_map(|length| {
        let (head, uid) = stem.split_at_checked(stem.len().checked_sub(length)?)?;
        let before = head.strip_suffix("pod")?;
        let ends_a_word = before.is_empty() || before.ends_with('-');
        (ends_a_word && is_uid(uid)).then_some(uid)
    })
}

/// A pod UID as the API writes it, as systemd does (`_` for `-`), or a static pod's hash.
pub(in crate::collect) fn is_uid(text: &str) -> bool {
    match text.len() {
        36 => text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => matches!(b, b'-' | b'_'),
            _ => is_lower_hex(b),
        }),
        32 => text.bytes().all(is_lower_hex),
        _ => false,
    }
}

/// The runtime's id of a container: 64 lower-case hex digits.
pub(in crate::collect) fn is_container_id(text: &str) -> bool {
    text.len() == CONTAINER_ID_LENGTH && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

enum Unit<'path> {
    Container(&'path str),
    Monitor,
    Other,
}

/// `<id>`, `<runtime>-<id>` or `<runtime>-<id>.scope`.
fn container_of(part: &str) -> Unit<'_> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let Some((runtime, id)) = stem
        .len()
        .checked_sub(CONTAINER_ID_LENGTH)
        .and_then(|at| stem.split_at_checked(at))
    else {
        return Unit::Other;
    };
    if !is_container_id(id) {
        return Unit::Other;
    }
    match runtime {
        "" => Unit::Container(id),
        // cri-o and podman: `crio-conmon-<id>.scope`, `libpod-conmon-<id>.scope`.
        _ if runtime.ends_with("conmon-") => Unit::Monitor,
        _ if runtime.ends_with('-') => Unit::Container(id),
        _ => Unit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11";
    const UID_: &str = "0e25dbd1_1fb5_4b34_b5f4_5b1f2d1b6b11";
    const OTHER_UID: &str = "77777777-1fb5-4b34-b5f4-5b1f2d1b6b11";
    const HASH: &str = "8d4a0b6a5c0d4f0e9a7b1c2d3e4f5a6b";
    const ID: &str = "3fb5a1c77d6f6ce2b1a0c1b8d3d7a9f0112233445566778899aabbccddeeff00";
    const INNER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    fn filled(template: &str) -> String {
        template
            .replace("{UID_}", UID_)
            .replace("{UID}", UID)
            .replace("{OTHER}", OTHER_UID)
            .replace("{HASH}", HASH)
            .replace("{ID}", ID)
            .replace("{INNER}", INNER)
    }

    fn check(template: &str, uid: Option<&str>, id: Option<&str>) {
        let found = parse_cgroup(&filled(template));
        assert_eq!(
            found.pod_uid.as_ref().map(PodUid::as_str),
            uid,
            "{template}"
        );
        assert_eq!(
            found.container_id.as_ref().map(ContainerId::as_str),
            id,
            "{template}"
        );
    }

    #[test]
    fn a_container_of_a_pod_in_every_known_form() {
        for path in [
            // cgroup v2, systemd driver
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{ID}.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{ID}.scope/container",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/docker-{ID}.scope",
            "/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
            // cgroupfs driver
            "/kubepods/burstable/pod{UID}/{ID}",
            "/kubepods/besteffort/pod{UID}/{ID}",
            "/kubepods/pod{UID}/{ID}",
            "/kubepods/burstable/pod{UID}/crio-{ID}",
            // a kubelet with a cgroup root: kind, and a root of one's own
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/system.slice/docker-{INNER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/docker/{INNER}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
            "/k8s.slice/k8s-node.slice/kubepods/pod{UID}/{ID}",
            // seen from another cgroup namespace
            "/../../kubepods-besteffort-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/../../../kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/../../pod{UID}/{ID}",
            "/../../../burstable/pod{UID}/{ID}",
            "/../pod{UID}/{ID}",
            // systemd's notation as a folder
            "/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}",
            "/kubepods-pod{UID_}.slice:cri-containerd:{ID}",
            "/kubepods-besteffort-pod{UID_}.slice:crio:{ID}",
            // nested inside the container
            "/kubepods/burstable/pod{UID}/{ID}/system.slice/sshd.service",
            "/kubepods/burstable/pod{UID}/{ID}/docker/{INNER}",
            "/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope/init.scope",
            "/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope/system.slice/docker-{INNER}.scope",
            "/kubepods/pod{UID}/{ID}/kubelet/kubepods/burstable/pod{OTHER}/{INNER}",
            "/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope/kubepods-pod{OTHER}.slice/cri-containerd-{INNER}.scope",
            "/kubepods/pod{UID}/{ID}/crio-conmon-{INNER}.scope",
            // ending
            "/kubepods/burstable/pod{UID}/{ID} (deleted)",
        ] {
            for line in [
                "0::{}",
                "7:memory:{}",
                "1:name=systemd:{}",
                "4:cpu,cpuacct:{}\n",
            ] {
                check(&line.replace("{}", path), Some(UID), Some(ID));
            }
        }
    }

    #[test]
    fn a_pod_without_a_container_of_its_own() {
        for path in [
            "0::/kubepods/burstable/pod{UID}",
            "0::/kubepods.slice/kubepods-burstable-pod{UID_}.slice",
            "0::/kubepods.slice/kubepods-pod{UID_}.slice/crio-conmon-{ID}.scope",
            "0::/kubepods/pod{UID}/crio-conmon-{ID}",
            "0::/kubepods/pod{UID}/short",
            "0::/docker/{INNER}/kubepods/pod{UID}",
        ] {
            check(path, Some(UID), None);
        }
    }

    #[test]
    fn static_pods_keep_their_hash() {
        check(
            "0::/kubepods/burstable/pod{HASH}/{ID}",
            Some(HASH),
            Some(ID),
        );
        check(
            "0::/kubepods.slice/kubepods-burstable-pod{HASH}.slice/cri-containerd-{ID}.scope",
            Some(HASH),
            Some(ID),
        );
    }

    #[test]
    fn containers_outside_kubernetes_have_an_id_and_no_pod() {
        for path in [
            "0::/system.slice/docker-{ID}.scope",
            "0::/docker/{ID}",
            "0::/machine.slice/libpod-{ID}.scope/container",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope",
            // a sibling in the agent's own pod, seen from the agent's cgroup namespace
            "0::/../cri-containerd-{ID}.scope",
            "0::/../{ID}",
            "0::/system.slice/docker-{ID}.scope/docker/{INNER}",
        ] {
            check(path, None, Some(ID));
        }
    }

    #[test]
    fn host_processes_and_garbage_prove_nothing() {
        for text in [
            "",
            "\n\n",
            "0::/",
            "0::/..",
            "0::/init.scope",
            "0::/system.slice/kubelet.service",
            "0::/user.slice/user-1000.slice/session-3.scope",
            "0::/kubepods.slice",
            "4:memory:/job/0c40d61d14bc3ba44309a4f48fb30584",
            "0::/machine.slice/libpod-conmon-{ID}.scope",
            // not a cgroup line
            "/kubepods/pod{UID}/{ID}",
            "::/kubepods/pod{UID}/{ID}",
            "x::/kubepods/pod{UID}/{ID}",
            "0:/kubepods/pod{UID}/{ID}",
            "0::kubepods/pod{UID}/{ID}",
            // nearly
            "0::/kubepods/tripod{UID}",
            "0::/kubepods/pod{UID}0",
            "0::/kubepods/podx{UID}",
            "0::/kubepods/pod-{UID}",
            "0::/kubepods/pod0E25DBD1-1FB5-4B34-B5F4-5B1F2D1B6B11",
            "0::/kubepods/x{ID}",
            "0::/kubepods/{ID}0",
            "0::/kubepods/pod\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            check(text, None, None);
        }
    }

    #[test]
    fn lines_that_name_a_pod_win_over_lines_that_do_not() {
        check(
            "2:cpu:/kubepods/pod{UID}/{ID}\n1:name=systemd:/\n0::/system.slice/docker-{INNER}.scope",
            Some(UID),
            Some(ID),
        );
        check(
            "2:cpu:/kubepods/pod{UID}\n0::/kubepods/pod{UID}/{ID}",
            Some(UID),
            Some(ID),
        );
    }

    #[test]
    fn lines_that_disagree_prove_only_what_they_share() {
        check(
            "2:cpu:/kubepods/pod{UID}/{ID}\n0::/kubepods/pod{OTHER}/{INNER}",
            None,
            None,
        );
        check(
            "2:cpu:/kubepods/pod{UID}/{ID}\n0::/kubepods/pod{UID}/{INNER}",
            Some(UID),
            None,
        );
        check("2:cpu:/docker/{ID}\n0::/docker/{INNER}", None, None);
    }

    fn hex(length: usize) -> impl Strategy<Value = String> {
        proptest::string::string_regex(&format!("[0-9a-f]{{{length}}}")).unwrap()
    }

    fn uid() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::string::string_regex("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap(),
            hex(32),
        ]
    }

    /// Parts as runtimes, tenants and enemies might name a cgroup.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("..".to_owned()),
            Just("kubepods.slice".to_owned()),
            uid().prop_map(|uid| format!("pod{uid}")),
            uid().prop_map(|uid| format!("kubepods-pod{}.slice", uid.replace('-', "_"))),
            (uid(), hex(64)).prop_map(|(uid, id)| format!("a-pod{uid}.slice:x:{id}")),
            hex(64),
            hex(64).prop_map(|id| format!("crio-{id}.scope")),
            hex(64).prop_map(|id| format!("crio-conmon-{id}.scope")),
            "[^/\n]{0,40}",
        ]
    }

    proptest! {
        /// No text makes the parser panic.
        #[test]
        fn never_panics(text in "(?s).{0,300}") {
            let _ = parse_cgroup(&text);
        }

        /// A UID that is found is a pod part of the input, a container id a part of it.
        #[test]
        fn nothing_is_made_up(lines in proptest::collection::vec(
            proptest::collection::vec(part(), 0..6), 1..4,
        )) {
            let text: String = lines
                .iter()
                .enumerate()
                .map(|(n, parts)| format!("{n}:c:/{}\n", parts.join("/")))
                .collect();
            let found = parse_cgroup(&text);
            if let Some(uid) = found.pod_uid {
                let there = text.replace('_', "-").contains(&format!("pod{uid}"));
                prop_assert!(there);
            }
            if let Some(id) = found.container_id {
                prop_assert!(text.contains(id.as_str()));
            }
        }

        /// Whatever a tenant nests below its own container, it stays that container.
        #[test]
        fn no_nesting_changes_the_identity(
            uid in uid(),
            id in hex(64),
            below in proptest::collection::vec(part(), 0..5),
        ) {
            let text = format!("0::/kubepods/burstable/pod{uid}/{id}/{}", below.join("/"));
            let found = parse_cgroup(&text);
            prop_assert_eq!(found.pod_uid, Some(PodUid::new(uid)));
            prop_assert_eq!(found.container_id, Some(ContainerId::new(id)));
        }

        /// From however deep a cgroup namespace the path is read, it names the same container.
        #[test]
        fn relative_paths_name_the_same(uid in uid(), id in hex(64), ups in 0_usize..8) {
            let text = format!(
                "0::{}/kubepods-besteffort-pod{}.slice/cri-containerd-{id}.scope\n",
                "/..".repeat(ups),
                uid.replace('-', "_"),
            );
            let found = parse_cgroup(&text);
            prop_assert_eq!(found.pod_uid, Some(PodUid::new(uid)));
            prop_assert_eq!(found.container_id, Some(ContainerId::new(id)));
        }
    }
}
