//! One card through NVML.

use std::sync::Arc;
use std::time::Duration;

use super::raw::{Buffers, Device, Events, INVALID_ARGUMENT, ProfileInfo, Session};
use crate::model::{
    Bytes, ContextKind, GpuError, GpuIdentity, GpuSource, GpuUuid, Memory, MigInstance, MigProfile,
    RawProcess, RingRead, XidEvent,
};

/// One card, its MIG instances under it. Made by the thread that looks for cards, then owned by
/// the card's sampler thread.
pub struct NvmlGpu {
    // Before the session: dropped before NVML is shut down.
    events: Result<Events, GpuError>,
    session: Arc<Session>,
    device: Device,
    card: GpuIdentity,
    /// As [`GpuSource::devices`] listed them last.
    devices: Vec<Device>,
    buffers: Buffers,
    /// False once the driver was found to lack the second version of its memory call.
    new_memory: bool,
}

impl NvmlGpu {
    /// The card with this number.
    ///
    /// # Errors
    /// [`GpuError`] where the card has no handle or no UUID; anything else it lacks is unknown.
    pub fn open(session: Arc<Session>, index: u32) -> Result<Self, GpuError> {
        let device = session.device(index)?;
        let uuid = session.uuid(device)?;
        let card = GpuIdentity {
            uuid: GpuUuid::new(uuid),
            parent: None,
            index: index.to_string().into(),
            model: text(session.name(device))?,
            minor: known(session.minor(device))?,
            pci_bus_id: text(session.pci_bus_id(device))?,
            driver_version: text(session.driver_version())?,
            mig_enabled: known(session.mig_enabled(device))?,
            mig: None,
            exclusive_process: known(session.exclusive_process(device))?.unwrap_or(false),
        };
        Ok(Self {
            events: Events::of(&session, device),
            session,
            device,
            card,
            devices: vec![device],
            buffers: Buffers::default(),
            new_memory: true,
        })
    }

    fn under_mig(&self) -> bool {
        self.card.mig_enabled == Some(true)
    }

    fn device(&self, index: usize) -> Result<Device, GpuError> {
        self.devices.get(index).copied().ok_or(INVALID_ARGUMENT)
    }

    fn instance(&self, number: u32, device: Device) -> Result<GpuIdentity, GpuError> {
        let name = self.session.name(device);
        let profile = match name.as_deref().ok().and_then(profile_in) {
            Some(profile) => profile.to_owned(),
            None => known(self.profile_by_size(device))?.unwrap_or_default(),
        };
        Ok(GpuIdentity {
            uuid: GpuUuid::new(self.session.uuid(device)?),
            parent: Some(self.card.uuid.clone()),
            index: format!("{}:{number}", self.card.index).into(),
            mig: Some(MigInstance {
                profile: profile.into(),
                gpu_instance: self.session.gpu_instance(device)?,
                compute_instance: self.session.compute_instance(device)?,
            }),
            ..self.card.clone()
        })
    }

    fn profile_by_size(&self, device: Device) -> Result<String, GpuError> {
        let size = self.session.attributes(device)?;
        let card = self.session.old_memory(self.device)?.total;
        let name = profile_name(size.gpu_slices, size.memory_mib, card);
        Ok(if size.compute_slices < size.gpu_slices {
            format!("{}c.{name}", size.compute_slices)
        } else {
            name
        })
    }
}

impl GpuSource for NvmlGpu {
    fn card(&self) -> &GpuIdentity {
        &self.card
    }

    fn devices(&mut self) -> Result<Vec<GpuIdentity>, GpuError> {
        self.card.mig_enabled = known(self.session.mig_enabled(self.device))?;
        self.card.exclusive_process =
            known(self.session.exclusive_process(self.device))?.unwrap_or(false);
        if !self.under_mig() {
            self.devices = vec![self.device];
            return Ok(vec![self.card.clone()]);
        }
        let mut identities = Vec::new();
        let mut devices = Vec::new();
        for (number, device) in self.session.mig_devices(self.device)? {
            match self.instance(number, device) {
                Ok(identity) => {
                    identities.push(identity);
                    devices.push(device);
                }
                // Destroyed since it was listed.
                Err(INVALID_ARGUMENT) => {}
                Err(error) => return Err(error),
            }
        }
        self.devices = devices;
        Ok(identities)
    }

    fn memory(&mut self, index: usize) -> Result<Memory, GpuError> {
        let device = self.device(index)?;
        if self.new_memory {
            match self.session.memory(device) {
                Err(GpuError::Unsupported) => {
                    let memory = self.session.old_memory(device)?;
                    self.new_memory = false;
                    return Ok(memory);
                }
                answer => return answer,
            }
        }
        self.session.old_memory(device)
    }

    fn processes(&mut self, index: usize, into: &mut Vec<RawProcess>) -> Result<bool, GpuError> {
        let device = self.device(index)?;
        let (session, buffers) = (&self.session, &mut self.buffers);
        let mut complete = session.processes(device, ContextKind::Compute, buffers, into)?;
        for kind in [ContextKind::Graphics, ContextKind::Mps] {
            match session.processes(device, kind, buffers, into) {
                Ok(all) => complete &= all,
                Err(GpuError::Unsupported) => {}
                Err(error) if error.needs_reopen() => return Err(error),
                // The compute list still stands; some rows may be missing.
                Err(_) => complete = false,
            }
        }
        Ok(complete)
    }

    fn ring(&mut self, after: Duration) -> Result<RingRead, GpuError> {
        if self.under_mig() {
            return Err(GpuError::Unsupported);
        }
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        // Rows first: a sample that comes in between is then in the samples alone, and the rows
        // never speak of a sample that is not there.
        let rows = self
            .session
            .ring_rows(self.device, after, &mut self.buffers)?;
        let samples = match self
            .session
            .ring_samples(self.device, after, &mut self.buffers)
        {
            Err(GpuError::Unsupported) => Vec::new(),
            answer => answer?,
        };
        Ok(RingRead { rows, samples })
    }

    fn xids(&mut self) -> Result<Vec<XidEvent>, GpuError> {
        match &mut self.events {
            Ok(events) => events.drain(),
            Err(error) => Err(*error),
        }
    }

    fn mig_profiles(&mut self) -> Result<Vec<MigProfile>, GpuError> {
        let profiles = self.session.profiles(self.device)?;
        let unnamed = profiles.iter().any(|(_, info)| info.name.is_none());
        let card = if unnamed {
            self.session.old_memory(self.device)?.total
        } else {
            Bytes(0)
        };
        Ok(profiles
            .into_iter()
            .map(|(number, info)| mig_profile(number, info, card))
            .collect())
    }
}

fn mig_profile(number: u32, info: ProfileInfo, card: Bytes) -> MigProfile {
    // NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1 and 2_SLICE_REV1: with the media engines.
    let media = matches!(number, 7 | 8);
    let profile = match &info.name {
        Some(name) => profile_in(name).unwrap_or(name).to_owned(),
        None => {
            let name = profile_name(info.slices, info.memory_mib, card);
            format!("{name}{}", if media { "+me" } else { "" })
        }
    };
    MigProfile {
        profile: profile.into(),
        memory: Bytes::mib(info.memory_mib),
        multiprocessors: info.multiprocessors,
        slices: info.slices,
        instances: info.instances,
    }
}

/// `1g.18gb` in `NVIDIA H200 MIG 1g.18gb` and in `MIG 1g.18gb`.
fn profile_in(name: &str) -> Option<&str> {
    let (_, profile) = name.rsplit_once("MIG ")?;
    Some(profile.trim()).filter(|profile| !profile.is_empty())
}

/// A profile's name as NVIDIA's tools compute it where NVML does not say it: memory in eighths of
/// the card, rounded up, of the card's whole GiB.
fn profile_name(slices: u32, memory_mib: u64, card: Bytes) -> String {
    let card_mib = (card.0 >> 20).max(1);
    let eighths = (memory_mib * 8).div_ceil(card_mib);
    let card_gib = card.0.div_ceil(1 << 30);
    format!("{slices}g.{}gb", (eighths * card_gib + 4) / 8)
}

/// `None` where card or driver cannot tell or will not; an error where the card is dead.
fn known<T>(answer: Result<T, GpuError>) -> Result<Option<T>, GpuError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.needs_reopen() => Err(error),
        Err(_) => Ok(None),
    }
}

fn text(answer: Result<String, GpuError>) -> Result<Arc<str>, GpuError> {
    Ok(known(answer)?.unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_as_nvidia_names_them() {
        let h200 = Bytes::mib(143_771);
        for (slices, mib, name) in [
            (1, 16_384, "1g.18gb"),
            (1, 33_280, "1g.35gb"),
            (2, 33_280, "2g.35gb"),
            (3, 71_424, "3g.71gb"),
            (7, 143_360, "7g.141gb"),
        ] {
            assert_eq!(profile_name(slices, mib, h200), name);
        }
        let a100 = Bytes::mib(40_960);
        assert_eq!(profile_name(1, 4_864, a100), "1g.5gb");
        assert_eq!(profile_name(3, 19_968, a100), "3g.20gb");
    }

    #[test]
    fn the_profile_is_what_follows_mig_in_a_name() {
        assert_eq!(profile_in("NVIDIA H200 MIG 1g.18gb"), Some("1g.18gb"));
        assert_eq!(profile_in("MIG 1g.18gb+me"), Some("1g.18gb+me"));
        assert_eq!(profile_in("NVIDIA H200"), None);
        assert_eq!(profile_in("MIG "), None);
    }
}
