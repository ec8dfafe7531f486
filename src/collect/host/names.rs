//! Names of pods and containers from the kubelet's log folders: no API is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cause_of;
use super::cgroup::{is_container_id, is_uid};
use crate::model::{
    Cause, ContainerId, ContainerName, HostFiles, Moment, PodName, PodNames, PodUid, Reading,
};

/// Pods, and containers, that are held: names beyond are left out.
pub const MAX_ENTRIES: usize = 16_384;

/// Least time between two listings: less than the agent's step, which comes early at times.
const LISTING_PERIOD: Duration = Duration::from_millis(500);

/// What the folder `/var/log/pods` (`<namespace>_<pod>_<uid>/`) and the links in
/// `/var/log/containers` (`<pod>_<namespace>_<container>-<id>.log`) say.
///
/// Names that do not fit these forms are skipped. The kubelet cuts a link's name at 255 bytes,
/// which takes the id's end: such a container is not named here, its pod is.
pub struct NameBook {
    files: Arc<dyn HostFiles>,
    pod_logs: String,
    container_logs: String,
    names: Arc<PodNames>,
    /// Both listings, sorted, of which `names` was made.
    listed: (Vec<String>, Vec<String>),
    last: Option<(Moment, Reading<()>)>,
}

impl NameBook {
    /// An empty book over these folders; nothing is read yet.
    pub fn new(files: Arc<dyn HostFiles>, pod_logs: &str, container_logs: &str) -> Self {
        Self {
            files,
            pod_logs: pod_logs.to_owned(),
            container_logs: container_logs.to_owned(),
            names: Arc::default(),
            listed: (Vec::new(), Vec::new()),
            last: None,
        }
    }

    /// The names, listed anew unless that was done less than half a second ago. The same `Arc` comes
    /// back while nothing changed.
    ///
    /// The reading is that of the listing. `Failed`: the folder of pods, or the one of containers
    /// for another reason than that it is missing (some runtimes have none, and pods alone are
    /// named), could not be listed; the names of that folder stay as they were, as a UID never
    /// changes its name.
    pub fn refresh(&mut self, now: Moment) -> (Arc<PodNames>, Reading<()>) {
        if let Some((at, health)) = self.last
            && now.since(at) < LISTING_PERIOD
        {
            return (self.names(), health);
        }
        let health = self.list();
        self.last = Some((now, health));
        (self.names(), health)
    }

    /// The names as of the last [`refresh`](Self::refresh).
    pub fn names(&self) -> Arc<PodNames> {
        Arc::clone(&self.names)
    }

    fn list(&mut self) -> Reading<()> {
        let pods = self.sorted(&self.pod_logs);
        let containers = match self.sorted(&self.container_logs) {
            Err(Cause::NotFound) => Ok(Vec::new()),
            other => other,
        };
        let health = match (&pods, &containers) {
            (Err(cause), _) | (_, Err(cause)) => Reading::Failed(*cause),
            (Ok(_), Ok(_)) => Reading::Value(()),
        };
        let mut changed = false;
        for (there, fresh) in [(&mut self.listed.0, pods), (&mut self.listed.1, containers)] {
            if let Ok(fresh) = fresh
                && fresh != *there
            {
                *there = fresh;
                changed = true;
            }
        }
        if changed {
            self.names = Arc::new(read_names(&self.listed.0, &self.listed.1));
        }
        health
    }

    fn sorted(&self, folder: &str) -> Result<Vec<String>, Cause> {
        let mut names = self.files.list(folder).map_err(|error| cause_of(&error))?;
        // Sorted before it is cut, so that the same names stay from listing to listing.
        names.sort_unstable();
        names.truncate(MAX_ENTRIES);
        Ok(names)
    }
}

fn read_names(pod_folders: &[String], container_logs: &[String]) -> PodNames {
    // Pods are shared between their containers.
    let mut shared: HashMap<(&str, &str), PodName> = HashMap::new();
    let mut pod_name = |namespace, pod| {
        shared
            .entry((namespace, pod))
            .or_insert_with(|| PodName {
                namespace: Arc::from(namespace),
                pod: Arc::from(pod),
            })
            .clone()
    };
    let mut names = PodNames::default();
    for folder in pod_folders {
        if let Some((namespace, pod, uid)) = parse_pod_folder(folder) {
            let name = pod_name(namespace, pod);
            names.pods.insert(PodUid::new(uid), name);
        }
    }
    for log in container_logs {
        if let Some((pod, namespace, container, id)) = parse_container_log(log) {
            let name = ContainerName {
                pod: pod_name(namespace, pod),
                container: Arc::from(container),
                from_status: false,
            };
            names.containers.insert(ContainerId::new(id), name);
        }
    }
    names
}

/// (namespace, pod, UID) of `<namespace>_<pod>_<uid>`.
fn parse_pod_folder(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = parts.next().is_none() && is_label(namespace) && is_subdomain(pod) && is_uid(uid);
    fits.then_some((namespace, pod, uid))
}

/// (pod, namespace, container, id) of `<pod>_<namespace>_<container>-<id>.log`.
fn parse_container_log(name: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = name.strip_suffix(".log")?.split('_');
    let (pod, namespace, last) = (parts.next()?, parts.next()?, parts.next()?);
    let (container, id) = last.rsplit_once('-')?;
    let fits = parts.next().is_none()
        && is_subdomain(pod)
        && is_label(namespace)
        && is_label(container)
        && is_container_id(id);
    fits.then_some((pod, namespace, container, id))
}

/// An RFC 1123 label: what namespaces and containers are named by.
pub(in crate::collect) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dashed_word(text)
}

/// An RFC 1123 subdomain: what pods are named by.
pub(in crate::collect) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dashed_word)
}

fn is_dashed_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11";
    const HASH: &str = "8d4a0b6a5c0d4f0e9a7b1c2d3e4f5a6b";
    const ID: &str = "3fb5a1c77d6f6ce2b1a0c1b8d3d7a9f0112233445566778899aabbccddeeff00";

    #[test]
    fn pod_folders() {
        for (name, expected) in [
            (
                format!("default_web-0_{UID}"),
                Some(("default", "web-0", UID)),
            ),
            (
                format!("kube-system_etcd-node.example.com_{HASH}"),
                Some(("kube-system", "etcd-node.example.com", HASH)),
            ),
            (UID.to_owned(), None),
            (format!("default_{UID}"), None),
            (format!("a_b_c_{UID}"), None),
            (format!("_b_{UID}"), None),
            (format!("a__{UID}"), None),
            (format!("Default_web_{UID}"), None),
            (format!("de.fault_web_{UID}"), None),
            (format!("default_we\"b\n_{UID}"), None),
            (format!("default_{}_{UID}", "x".repeat(254)), None),
            (format!("{}_web_{UID}", "x".repeat(64)), None),
            ("default_web_not-a-uid".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse_pod_folder(&name), expected, "{name}");
        }
    }

    #[test]
    fn container_logs() {
        for (name, expected) in [
            (
                format!("web-0_default_cuda-{ID}.log"),
                Some(("web-0", "default", "cuda", ID)),
            ),
            (
                format!("a.b-c_kube-system_side-car-2-{ID}.log"),
                Some(("a.b-c", "kube-system", "side-car-2", ID)),
            ),
            (format!("web-0_default_cuda-{ID}"), None),
            (format!("web-0_default_cuda-{}.log", &ID[1..]), None),
            (format!("web-0_default_-{ID}.log"), None),
            (format!("web-0_default_{ID}.log"), None),
            (format!("web-0_default_x_cuda-{ID}.log"), None),
            (format!("web-0_cuda-{ID}.log"), None),
            (".log".to_owned(), None),
        ] {
            assert_eq!(parse_container_log(&name), expected, "{name}");
        }
    }

    proptest! {
        /// No name makes the parsers panic.
        #[test]
        fn never_panics(name in "(?s).{0,300}") {
            let _ = (parse_pod_folder(&name), parse_container_log(&name));
        }

        /// What Kubernetes may name comes back as it was.
        #[test]
        fn names_come_back(
            namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            pod in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,9}){0,3}",
            container in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        ) {
            let folder = format!("{namespace}_{pod}_{UID}");
            prop_assert_eq!(parse_pod_folder(&folder), Some((&*namespace, &*pod, UID)));
            let log = format!("{pod}_{namespace}_{container}-{ID}.log");
            prop_assert_eq!(
                parse_container_log(&log),
                Some((&*pod, &*namespace, &*container, ID))
            );
        }
    }
}
