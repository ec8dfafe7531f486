//! Names of resources and devices: `resources.go` and `replicas.go` of the plugin.

/// `DefaultSharedResourceNameSuffix`.
pub(super) const SHARED_SUFFIX: &str = ".shared";
/// `ResourceNamePrefix` with its slash.
const PREFIX: &str = "nvidia.com/";
/// `MaxResourceNameLength`, of the name with its prefix.
const MAX_LENGTH: usize = 63;

/// `NewResourceName`: the name with its prefix.
///
/// # Errors
/// With the plugin's words where it refuses the name.
pub(super) fn qualified(name: &str) -> Result<String, String> {
    let full = if name.starts_with(PREFIX) {
        name.to_owned()
    } else {
        format!("{PREFIX}{name}")
    };
    if full.len() > MAX_LENGTH {
        return Err(format!(
            "fully-qualified resource name must be {MAX_LENGTH} characters or less"
        ));
    }
    if !is_subdomain(&full[PREFIX.len()..]) {
        return Err(format!("incorrect format for resource name '{full}'"));
    }
    Ok(full)
}

/// An RFC 1123 subdomain, as Kubernetes has it; its length is the caller's.
fn is_subdomain(name: &str) -> bool {
    name.split('.').all(|label| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().last().is_some_and(inner)
    })
}

/// What a name, with its prefix, can match: the plugin makes no other resources, as it ignores
/// `resources` and `rename`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matches {
    Gpus,
    MigDevices,
    Nothing,
}

pub(super) fn matches(full: &str) -> Matches {
    let name = full.strip_prefix(PREFIX).unwrap_or(full);
    if name == "gpu" {
        return Matches::Gpus;
    }
    match name.strip_prefix("mig-").map(is_profile) {
        Some(true) => Matches::MigDevices,
        _ => Matches::Nothing,
    }
}

/// A MIG profile in a resource's name: `1g.10gb`, `1g.5gb.me`.
fn is_profile(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((slices, rest)) = name.split_once("g.") else {
        return false;
    };
    let Some((gigabytes, attributes)) = rest.split_once("gb") else {
        return false;
    };
    number(slices)
        && number(gigabytes)
        && (attributes.is_empty() || attributes.starts_with(['.', '-']))
}

/// Whether `devices` may name this: `IsGPUIndex`, `IsMigIndex` or `IsUUID`.
pub(super) fn is_device(name: &str) -> bool {
    let index =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
    let gpu = |name: &str| name.strip_prefix("GPU-").is_some_and(is_uuid);
    let mig = |name: &str| {
        let mut parts = name.splitn(3, '/');
        is_uuid(name)
            || (parts.next().is_some_and(gpu)
                && parts.next().is_some_and(index)
                && parts.next().is_some_and(index))
    };
    index(name)
        || name
            .split_once(':')
            .is_some_and(|(gpu, mig)| index(gpu) && index(mig))
        || gpu(name)
        || name.strip_prefix("MIG-").is_some_and(mig)
}

/// What google/uuid's `Parse` takes: with hyphens, without them, in braces, as a URN.
fn is_uuid(text: &str) -> bool {
    let text = match text.len() {
        45 if text.as_bytes()[..9].eq_ignore_ascii_case(b"urn:uuid:") => &text.as_bytes()[9..],
        38 => &text.as_bytes()[1..37],
        32 => return text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => text.as_bytes(),
    };
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_prefix_and_are_subdomains() {
        assert_eq!(qualified("gpu").as_deref(), Ok("nvidia.com/gpu"));
        assert_eq!(qualified("nvidia.com/gpu").as_deref(), Ok("nvidia.com/gpu"));
        let long = format!("nvidia.com/{}", "a".repeat(53));
        for refused in [
            "",
            "amd.com/gpu",
            "GPU",
            "$x$",
            "gpu.",
            "-gpu",
            "nvidia.com/",
            &long,
        ] {
            assert!(qualified(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn resources_are_gpus_mig_devices_or_nothing() {
        for (name, is) in [
            ("nvidia.com/gpu", Matches::Gpus),
            ("nvidia.com/mig-1g.10gb", Matches::MigDevices),
            ("nvidia.com/mig-1g.5gb.me", Matches::MigDevices),
            ("nvidia.com/mig-10gb", Matches::Nothing),
            ("nvidia.com/gpus", Matches::Nothing),
            ("nvidia.com/gpu.shared", Matches::Nothing),
        ] {
            assert_eq!(matches(name), is, "{name}");
        }
    }

    #[test]
    fn devices_are_indices_or_uuids() {
        for taken in [
            "0",
            "0:1",
            "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c",
            "MIG-3eb87630-93d5-b2b6-b8ff-9b359caf4ee2",
            "MIG-GPU-662077db-fa3f-0d8f-9502-21ab0ef058a2/10/0",
            "GPU-4cf8db2d06c07d701a51e59b25b2c16c",
        ] {
            assert!(is_device(taken), "{taken}");
        }
        for refused in [
            "",
            "-1",
            "+1",
            "0:",
            "0:1:2",
            "invalid-UUID",
            "GPU-UUID",
            "MIG-UUID",
            "MIG-GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c",
            "ééééééééééééééé",
        ] {
            assert!(!is_device(refused), "{refused}");
        }
    }
}
