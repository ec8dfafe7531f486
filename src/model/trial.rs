//! What a pod of `check --functional` says of itself.

use serde::{Deserialize, Serialize};

/// The GPUs that a container was given, told from inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// UUIDs by the driver, of MIG instances where there are such.
    pub gpus: Vec<String>,
    /// Why the driver does not say.
    pub driver_error: Option<String>,
    /// `NVIDIA_VISIBLE_DEVICES`, which the device plugin sets where it hands GPUs over so.
    pub visible_devices: Option<String>,
}

impl Witness {
    /// The UUIDs, by the driver or else as the device plugin wrote them; never a word like `all`.
    pub fn uuids(&self) -> Vec<&str> {
        if !self.gpus.is_empty() {
            return self.gpus.iter().map(String::as_str).collect();
        }
        let listed = self
            .visible_devices
            .as_deref()
            .unwrap_or_default()
            .split(',');
        listed
            .map(str::trim)
            .filter(|name| name.starts_with("GPU-") || name.starts_with("MIG-"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_wins_and_words_are_no_uuids() {
        let of = |gpus: &[&str], visible: Option<&str>| Witness {
            gpus: gpus.iter().map(|gpu| (*gpu).to_owned()).collect(),
            driver_error: None,
            visible_devices: visible.map(str::to_owned),
        };
        assert_eq!(of(&["GPU-a"], Some("GPU-b")).uuids(), ["GPU-a"]);
        assert_eq!(of(&[], Some("GPU-b, GPU-c")).uuids(), ["GPU-b", "GPU-c"]);
        for words in [None, Some("all"), Some("void"), Some("0"), Some("")] {
            assert!(of(&[], words).uuids().is_empty(), "{words:?}");
        }
    }
}
