//! The pods of this node, live and lately gone, as names: pure, with time as an argument.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::Pod;
use crate::model::{ContainerId, ContainerName, Moment, PodNames, PodUid};

/// A deleted pod, and the id of a container that was restarted, stay known this long: a process
/// may outlive both.
pub const KEPT: Duration = Duration::from_secs(600);
/// Pods held at once. A kubelet runs 110 unless told otherwise.
pub const MAX_PODS: usize = 1024;
/// Container ids held at once.
pub const MAX_CONTAINERS: usize = 4096;

/// What is known of the pods of one node.
///
/// Its names are a function of the pods that it holds: an id that two pods claim names neither.
#[derive(Debug, Default)]
pub struct PodIndex {
    pods: HashMap<PodUid, Known>,
    /// Counts lists: what the newest one did not have is deleted.
    list: u64,
    /// Of names, since they were last made.
    changed: bool,
    names: Arc<PodNames>,
    refused: u64,
}

#[derive(Debug)]
struct Known {
    pod: Pod,
    list: u64,
    deleted: bool,
    /// Since when it is deleted or finished.
    gone: Option<Moment>,
    /// Ids that its status no longer has, with the time it lost them.
    former: Vec<(ContainerId, Arc<str>, Moment)>,
}

impl Known {
    fn ids(&self) -> usize {
        self.pod.containers.len() + self.former.len()
    }
}

impl PodIndex {
    /// An index without pods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a list: [`reset`](Self::reset) ends it.
    pub fn begin(&mut self) {
        self.list += 1;
    }

    /// Takes in a pod as it is now.
    pub fn apply(&mut self, pod: Pod, now: Moment) {
        // A name is one pod's at a time: the other one's end was missed.
        let others: Vec<PodUid> = self
            .pods
            .values()
            .filter(|known| {
                !known.deleted && known.pod.name == pod.name && known.pod.uid != pod.uid
            })
            .map(|known| known.pod.uid.clone())
            .collect();
        for other in others {
            self.delete(&other, now);
        }
        let uid = pod.uid.clone();
        match self.pods.entry(uid.clone()) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                known.list = self.list;
                if known.pod != pod || known.deleted {
                    self.changed = true;
                    known.deleted = false;
                    known.gone = pod.finished.then(|| known.gone.unwrap_or(now));
                    let old = std::mem::replace(&mut known.pod, pod);
                    let is_listed = |id: &ContainerId| {
                        let listed = &known.pod.containers;
                        listed.binary_search_by(|(there, _)| there.cmp(id)).is_ok()
                    };
                    known.former.retain(|(id, ..)| !is_listed(id));
                    let lost = old.containers.into_iter().filter(|(id, _)| !is_listed(id));
                    let lost: Vec<_> = lost.map(|(id, name)| (id, name, now)).collect();
                    known.former.extend(lost);
                }
            }
            Entry::Vacant(entry) => {
                self.changed = true;
                entry.insert(Known {
                    list: self.list,
                    deleted: false,
                    gone: pod.finished.then_some(now),
                    pod,
                    former: Vec::new(),
                });
            }
        }
        self.bound(&uid);
    }

    /// Takes in that a pod is deleted: its names stay for [`KEPT`].
    pub fn delete(&mut self, uid: &PodUid, now: Moment) {
        if let Some(known) = self.pods.get_mut(uid)
            && !known.deleted
        {
            known.deleted = true;
            known.gone.get_or_insert(now);
            self.changed = true;
        }
    }

    /// Ends a list: pods that were not applied since [`begin`](Self::begin) are deleted.
    pub fn reset(&mut self, now: Moment) {
        let absent: Vec<PodUid> = self
            .pods
            .values()
            .filter(|known| known.list != self.list)
            .map(|known| known.pod.uid.clone())
            .collect();
        for uid in absent {
            self.delete(&uid, now);
        }
    }

    /// Forgets what is gone for longer than [`KEPT`].
    pub fn expire(&mut self, now: Moment) {
        let ids = self.ids();
        let pods = self.pods.len();
        let is_kept = |since: Moment| now.since(since) < KEPT;
        self.pods.retain(|_, known| known.gone.is_none_or(is_kept));
        for known in self.pods.values_mut() {
            known.former.retain(|(.., since)| is_kept(*since));
        }
        self.changed |= ids != self.ids() || pods != self.pods.len();
    }

    /// Names of all that is known. The same `Arc` comes back while nothing changed.
    pub fn names(&mut self) -> Arc<PodNames> {
        if std::mem::take(&mut self.changed) {
            self.names = Arc::new(self.make_names());
        }
        Arc::clone(&self.names)
    }

    /// Pods held, live and gone.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod is held.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Container ids held.
    pub fn ids(&self) -> usize {
        self.pods.values().map(Known::ids).sum()
    }

    /// Pods that were left out because [`MAX_PODS`] or [`MAX_CONTAINERS`] live ones are held, since
    /// the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Makes room: what is gone longest goes first, and at last the newcomer.
    fn bound(&mut self, newcomer: &PodUid) {
        while self.pods.len() > MAX_PODS || self.ids() > MAX_CONTAINERS {
            let gone = self.pods.values().filter_map(|known| {
                let since = known.gone?;
                Some((since, known.pod.uid.clone()))
            });
            if let Some((_, uid)) = gone.min() {
                self.pods.remove(&uid);
                continue;
            }
            let oldest = self.pods.values_mut().filter_map(|known| {
                let since = known.former.iter().map(|(.., since)| *since).min()?;
                Some((since, known))
            });
            if let Some((since, known)) = oldest.min_by_key(|(since, _)| *since) {
                known.former.retain(|(.., at)| *at != since);
                continue;
            }
            self.pods.remove(newcomer);
            self.refused += 1;
        }
    }

    fn make_names(&self) -> PodNames {
        let mut all: Vec<&Known> = self.pods.values().collect();
        // Of two that claim the same for one name, the one that lives says more.
        all.sort_by_key(|known| (!known.deleted, known.gone, &known.pod.uid));
        let mut names = PodNames::default();
        for Known { pod, .. } in &all {
            names.pods.insert(pod.uid.clone(), pod.name.clone());
            names
                .statuses
                .insert(pod.uid.clone(), Arc::clone(&pod.status));
        }
        let aliases = unanimous(all.iter().filter_map(|Known { pod, .. }| {
            // Whoever may write annotations may claim any UID: a pod's own comes first.
            (!self.pods.contains_key(&pod.host_uid)).then_some((&pod.host_uid, &pod.name, pod))
        }));
        for (uid, (name, pod)) in &aliases {
            names.pods.insert((*uid).clone(), (*name).clone());
            names
                .statuses
                .insert((*uid).clone(), Arc::clone(&pod.status));
        }
        for Known { pod, deleted, .. } in &all {
            if !deleted {
                let uid = match aliases.get(&pod.host_uid) {
                    Some((name, _)) if **name == pod.name => &pod.host_uid,
                    _ => &pod.uid,
                };
                names.current.insert(pod.name.clone(), uid.clone());
            }
        }
        let containers = unanimous(all.iter().flat_map(|known| {
            let former = known.former.iter().map(|(id, name, _)| (id, name));
            let listed = known.pod.containers.iter().map(|(id, name)| (id, name));
            let pod = &known.pod.name;
            former
                .chain(listed)
                .map(move |(id, name)| (id, (pod, name), ()))
        }));
        for (id, ((pod, container), ())) in containers {
            names.containers.insert(
                id.clone(),
                ContainerName {
                    pod: pod.clone(),
                    container: Arc::clone(container),
                    from_status: true,
                },
            );
        }
        names
    }
}

/// What each id is said to be, with what the last one to say so added; an id that is said to be two
/// things is left out.
fn unanimous<'a, I: Eq + Hash, W: PartialEq, T>(
    claims: impl Iterator<Item = (&'a I, W, T)>,
) -> HashMap<&'a I, (W, T)> {
    let mut all: HashMap<&I, (W, T)> = HashMap::new();
    let mut disputed = HashSet::new();
    for (id, what, more) in claims {
        if all.get(id).is_some_and(|(there, _)| *there != what) {
            disputed.insert(id);
        }
        all.insert(id, (what, more));
    }
    all.retain(|id, _| !disputed.contains(id));
    all
}

#[cfg(test)]
mod tests;
