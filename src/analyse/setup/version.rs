//! Versions of the device plugin that do not do what a profile asks of them. Each fault is one that
//! the plugin's own CHANGELOG.md (NVIDIA/k8s-device-plugin at 03834bea) says was mended.

use std::fmt;

use crate::analyse::plugin_config::Sharing;

/// The version whose source the rules were read in.
pub(super) const GOOD: &str = "0.20.0";

/// A released version of the device plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// What is wrong with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) words: &'static str,
    pub(super) mended: Version,
}

const fn version(minor: u32, patch: u32) -> Version {
    Version {
        major: 0,
        minor,
        patch,
    }
}

impl Version {
    /// Of an image of the plugin, by its tag; none for other images, for digests without a tag, and
    /// for tags that are no version.
    pub(super) fn of_plugin(image: &str) -> Option<Self> {
        let image = image.split('@').next().unwrap_or(image);
        let (repository, tag) = image.rsplit_once(':')?;
        if repository.rsplit('/').next() != Some("k8s-device-plugin") {
            return None;
        }
        let tag = tag.strip_prefix('v').unwrap_or(tag);
        let number = tag.split('-').next().unwrap_or(tag);
        let mut parts = number.split('.').map(|part| part.parse().ok());
        let found = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        // Before 0.6 the versions were 1.0.0-beta, and 1.9 to 1.11.
        (parts.next().is_none() && found.major == 0).then_some(found)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What is wrong with a version, given how the profiles that it reads share.
pub(super) fn fault(running: Version, strategies: &[Sharing]) -> Option<Fault> {
    let time_slicing = strategies.contains(&Sharing::TimeSlicing);
    let mps = strategies.contains(&Sharing::Mps);
    let faults = [
        (
            time_slicing || mps,
            version(12, 0),
            "reads no profile: time-slicing came with 0.12.0",
        ),
        (
            mps,
            version(15, 0),
            "knows no MPS and ignores it without a word: it came with 0.15.0",
        ),
        (
            time_slicing,
            version(13, 0),
            "hands out the replicas of one GPU before those of the next: since 0.13.0 they are spread",
        ),
    ];
    let broken = |&(matters, mended, words): &(bool, Version, &'static str)| {
        (matters && running < mended).then_some(Fault { words, mended })
    };
    faults.iter().find_map(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_images_of_the_plugin_alone() {
        for (image, version) in [
            ("nvcr.io/nvidia/k8s-device-plugin:v0.17.4", Some("0.17.4")),
            (
                "nvcr.io/nvidia/k8s-device-plugin:v0.14.1-ubi8",
                Some("0.14.1"),
            ),
            (
                "reg:5000/k8s-device-plugin:v0.12.2@sha256:abc",
                Some("0.12.2"),
            ),
            ("nvcr.io/nvidia/k8s-device-plugin@sha256:abc", None),
            ("reg:5000/nvidia/k8s-device-plugin", None),
            ("nvcr.io/nvidia/k8s-device-plugin:main", None),
            ("nvcr.io/nvidia/k8s-device-plugin:1.0.0-beta6", None),
            ("nvcr.io/nvidia/k8s-device-plugin:v0.12", None),
            ("example/other:v0.1.0", None),
            ("", None),
        ] {
            let found = Version::of_plugin(image).map(|it| it.to_string());
            assert_eq!(found.as_deref(), version, "{image}");
        }
    }

    #[test]
    fn a_fault_counts_only_where_the_profile_meets_it() {
        let slicing = [Sharing::TimeSlicing];
        let mps = [Sharing::None, Sharing::Mps];
        for (running, strategies, mended) in [
            (version(11, 0), &slicing[..], Some(version(12, 0))),
            (version(11, 0), &[Sharing::None], None),
            (version(12, 3), &slicing, Some(version(13, 0))),
            (version(13, 0), &slicing, None),
            (version(14, 5), &slicing, None),
            (version(14, 5), &mps, Some(version(15, 0))),
            (version(11, 0), &mps, Some(version(12, 0))),
            (version(15, 0), &mps, None),
        ] {
            let found = fault(running, strategies).map(|it| it.mended);
            assert_eq!(found, mended, "{running} {strategies:?}");
        }
    }
}
