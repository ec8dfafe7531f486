//! Names and ids as a cluster makes them.

use rand::Rng;
use rand::rngs::SmallRng;

/// The letters that Kubernetes draws its suffixes from (`k8s.io/apimachinery/pkg/util/rand`).
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest name `/var/log/containers` gives, without `.log`: the kubelet cuts the rest off.
const LONGEST_LINK: usize = 251;

/// `length` letters of a generated name.
pub(super) fn suffix(rng: &mut SmallRng, length: usize) -> String {
    (0..length)
        .map(|_| char::from(SUFFIX_LETTERS[rng.random_range(0..SUFFIX_LETTERS.len())]))
        .collect()
}

/// A version 4 UUID.
pub(super) fn uuid(rng: &mut SmallRng) -> String {
    let bits: u128 = rng.random();
    let bits = bits & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// A container id: 64 hex digits.
pub(super) fn container_id(rng: &mut SmallRng) -> String {
    (0..4)
        .map(|_| format!("{:016x}", rng.random::<u64>()))
        .collect()
}

/// The name of a container's link in `/var/log/containers`. A long name loses its end, and with
/// it digits of the container id: so does the kubelet's.
pub(super) fn log_link(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let mut name = format!("{pod}_{namespace}_{container}-{id}");
    name.truncate(LONGEST_LINK);
    name + ".log"
}

/// How the pods of a workload are named, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Naming {
    /// `base-<hash of the template>-<5 letters>`, kind `Deployment`.
    Deployment { base: String, hash: String },
    /// `base-<ordinal>`: the same name again after each recreation.
    StatefulSet { base: String, ordinal: u32 },
    /// `base-<number>-<5 letters>`, as a CronJob's Jobs have it.
    Job { base: String, first: u32 },
    /// `base-<5 letters>`.
    DaemonSet { base: String },
    /// A pod that somebody made by hand.
    Bare { name: String },
}

impl Naming {
    pub(super) fn deployment(base: &str, rng: &mut SmallRng) -> Self {
        Self::Deployment {
            base: base.to_owned(),
            hash: suffix(rng, 10),
        }
    }

    /// The name of pod number `round` of this workload.
    pub(super) fn next(&self, round: u32, rng: &mut SmallRng) -> String {
        match self {
            Self::Deployment { base, hash } => format!("{base}-{hash}-{}", suffix(rng, 5)),
            Self::StatefulSet { base, ordinal } => format!("{base}-{ordinal}"),
            Self::Job { base, first } => {
                format!("{base}-{}-{}", first.saturating_add(round), suffix(rng, 5))
            }
            Self::DaemonSet { base } => format!("{base}-{}", suffix(rng, 5)),
            Self::Bare { name } => name.clone(),
        }
    }

    /// Kind and name of the workload.
    pub(super) fn workload(&self) -> (&'static str, &str) {
        match self {
            Self::Deployment { base, .. } => ("Deployment", base),
            Self::StatefulSet { base, .. } => ("StatefulSet", base),
            Self::Job { base, .. } => ("CronJob", base),
            Self::DaemonSet { base } => ("DaemonSet", base),
            Self::Bare { name } => ("Pod", name),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn ids_have_their_real_forms() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..100 {
            let id = uuid(&mut rng);
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12]
            );
            assert!(parts[2].starts_with('4'), "{id}");
            assert!("89ab".contains(&parts[3][..1]), "{id}");
            let container = container_id(&mut rng);
            assert_eq!(container.len(), 64);
            assert!(container.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn a_long_link_is_cut_as_the_kubelet_cuts_it() {
        let short = log_link("web-0", "default", "app", &"a".repeat(64));
        assert_eq!(short, format!("web-0_default_app-{}.log", "a".repeat(64)));
        let long = log_link(&"p".repeat(180), "default", "app", &"a".repeat(64));
        assert_eq!(long.len(), 255);
        assert!(long.ends_with("aaa.log"));
    }
}
