//! What device plugins name their devices.

use std::sync::Arc;

use crate::model::{DeviceRef, GpuUuid};

/// A device id, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceId {
    /// The device, without the replica.
    pub device: DeviceRef,
    /// True where the id named a replica: the plugin shares this device.
    pub shared: bool,
}

/// Takes a device id apart.
///
/// | id | of | device |
/// |---|---|---|
/// | `GPU-<uuid>`, `MIG-<uuid>` | NVIDIA's plugin | the UUID |
/// | `GPU-<uuid>::3`, `MIG-<uuid>::3` | NVIDIA's plugin, sharing | the UUID, shared |
/// | `MIG-GPU-<uuid>/1/0` | NVIDIA's plugin, drivers before 470 | that text, NVML's UUID there |
/// | `nvidia0`, `nvidia0/gi1` | GKE's plugin | minor number, GPU instance |
/// | `nvidia0/vgpu3`, `nvidia0/gi1/vgpu3` | GKE's plugin, sharing | the same, shared |
/// | `GPU-<uuid>-3` | HAMi | the UUID, shared |
///
/// An id of another form is kept as it came, less a `::<replica>`.
pub fn parse_device_id(id: &str) -> DeviceId {
    let (base, annotated) = match id.rsplit_once("::") {
        Some((base, replica)) if is_number(replica) => (base, true),
        _ => (id, false),
    };
    let (device, replica) = device_of(base).unwrap_or_else(|| {
        let text: Arc<str> = base.into();
        (DeviceRef::Unknown(text), false)
    });
    DeviceId {
        device,
        shared: annotated || replica,
    }
}

/// The device, and whether the text named a replica of it.
fn device_of(text: &str) -> Option<(DeviceRef, bool)> {
    if let Some(rest) = text.strip_prefix("nvidia") {
        return minor_of(rest);
    }
    if let Some(rest) = text.strip_prefix("MIG-GPU-") {
        let (uuid, instances) = rest.split_at_checked(UUID_LENGTH)?;
        let (gpu, compute) = instances.strip_prefix('/')?.split_once('/')?;
        let fits = is_uuid(uuid) && is_number(gpu) && is_number(compute);
        return fits.then(|| (DeviceRef::Uuid(GpuUuid::new(text)), false));
    }
    let rest = text
        .strip_prefix("GPU-")
        .or_else(|| text.strip_prefix("MIG-"))?;
    let (uuid, replica) = rest.split_at_checked(UUID_LENGTH)?;
    if !is_uuid(uuid) {
        return None;
    }
    let shared = match replica.strip_prefix('-') {
        Some(number) if is_number(number) => true,
        None if replica.is_empty() => false,
        _ => return None,
    };
    let device = &text[..text.len() - replica.len()];
    Some((DeviceRef::Uuid(GpuUuid::new(device)), shared))
}

/// What follows `nvidia` in `nvidia<minor>[/gi<instance>][/vgpu<replica>]`.
fn minor_of(rest: &str) -> Option<(DeviceRef, bool)> {
    let mut parts = rest.split('/').peekable();
    let minor = number(parts.next()?)?;
    let mut gpu_instance = None;
    if let Some(instance) = parts.peek().and_then(|part| part.strip_prefix("gi")) {
        gpu_instance = Some(number(instance)?);
        parts.next();
    }
    let mut shared = false;
    if let Some(replica) = parts.next() {
        number(replica.strip_prefix("vgpu")?)?;
        shared = true;
    }
    if parts.next().is_some() {
        return None;
    }
    let device = DeviceRef::Minor {
        minor,
        gpu_instance,
    };
    Some((device, shared))
}

const UUID_LENGTH: usize = 36;

/// `8-4-4-4-12` hex digits.
fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LENGTH
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    is_number(text).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "4cf8db2d-06c0-7d70-1a51-e59b25b2c16c";

    fn uuid(text: String) -> DeviceRef {
        DeviceRef::Uuid(GpuUuid::new(text))
    }

    fn minor(minor: u32, gpu_instance: Option<u32>) -> DeviceRef {
        DeviceRef::Minor {
            minor,
            gpu_instance,
        }
    }

    #[test]
    fn every_known_form() {
        let gpu = uuid(format!("GPU-{UUID}"));
        let mig = uuid(format!("MIG-{UUID}"));
        let legacy = uuid(format!("MIG-GPU-{UUID}/1/0"));
        for (id, device, shared) in [
            (format!("GPU-{UUID}"), gpu.clone(), false),
            (format!("GPU-{UUID}::0"), gpu.clone(), true),
            (format!("GPU-{UUID}::16383"), gpu.clone(), true),
            (format!("GPU-{UUID}-7"), gpu.clone(), true),
            (format!("GPU-{UUID}-7::1"), gpu, true),
            (format!("MIG-{UUID}"), mig.clone(), false),
            (format!("MIG-{UUID}::3"), mig.clone(), true),
            (format!("MIG-{UUID}-3"), mig, true),
            (format!("MIG-GPU-{UUID}/1/0"), legacy.clone(), false),
            (format!("MIG-GPU-{UUID}/1/0::2"), legacy, true),
            ("nvidia0".into(), minor(0, None), false),
            ("nvidia12/vgpu0".into(), minor(12, None), true),
            ("nvidia0/gi1".into(), minor(0, Some(1)), false),
            ("nvidia0/gi13/vgpu5".into(), minor(0, Some(13)), true),
        ] {
            assert_eq!(parse_device_id(&id), DeviceId { device, shared }, "{id}");
        }
    }

    #[test]
    fn other_forms_are_kept_as_they_came() {
        for id in [
            "",
            "0000:3b:00.2",
            "0",
            "nvidia",
            "nvidia-1",
            "nvidia+1",
            "nvidia0/",
            "nvidia0/vgpu",
            "nvidia0/gi",
            "nvidia0/vgpu0/gi1",
            "nvidia0/gi1/vgpu0/x",
            "nvidia99999999999",
            "GPU-",
            "GPU-1234",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16z",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c0",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c-",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c::",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c::x",
            "MIG-GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c",
            "MIG-GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c/1",
            "\u{1f600}\"\n",
        ] {
            let expected = DeviceRef::Unknown(id.into());
            assert_eq!(parse_device_id(id).device, expected, "{id}");
            assert!(!parse_device_id(id).shared);
        }
    }

    #[test]
    fn replicas_of_an_unknown_device_are_one_device() {
        let parsed = parse_device_id("tegra::3");
        assert_eq!(parsed.device, DeviceRef::Unknown("tegra".into()));
        assert!(parsed.shared);
    }

    proptest! {
        /// No text makes the parser panic.
        #[test]
        fn never_panics(id in "(?s)(GPU-|MIG-|MIG-GPU-|nvidia)?.{0,80}") {
            let _ = parse_device_id(&id);
        }

        /// All replicas of a device name that device.
        #[test]
        fn replicas_name_their_device(
            uuid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            replica: u32,
        ) {
            let plain = parse_device_id(&format!("GPU-{uuid}"));
            for separator in ["::", "-"] {
                let one = parse_device_id(&format!("GPU-{uuid}{separator}{replica}"));
                prop_assert_eq!(&one.device, &plain.device);
                prop_assert!(one.shared);
            }
        }
    }
}
