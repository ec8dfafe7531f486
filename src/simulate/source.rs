//! One simulated card as the agent's driver seam shows it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::world::World;
use super::{cards, lock};
use crate::model::{
    GpuError, GpuIdentity, GpuSource, Memory, MigProfile, RawProcess, RingRead, XidEvent,
};

/// A handle of one card. Dead for ever once its card was lost or the driver unloaded.
pub(super) struct SimGpu {
    world: Arc<Mutex<World>>,
    card: usize,
    identity: Arc<GpuIdentity>,
    generation: u32,
}

impl SimGpu {
    /// A handle of a card that answers now.
    pub(super) fn open(world: &Arc<Mutex<World>>, card: usize) -> Result<Self, GpuError> {
        let held = lock(world);
        let card_now = &held.cards[card];
        if let Some(error) = card_now.down {
            return Err(error);
        }
        Ok(Self {
            world: world.clone(),
            card,
            identity: card_now.identity.clone(),
            generation: card_now.generation,
        })
    }

    fn world(&self) -> Result<MutexGuard<'_, World>, GpuError> {
        let world = lock(&self.world);
        let card = &world.cards[self.card];
        match card.down {
            Some(error) => Err(error),
            None if card.generation != self.generation => Err(card.last_fault),
            None => Ok(world),
        }
    }
}

/// The device behind the seam's index.
fn device(world: &World, card: usize, index: usize) -> Result<usize, GpuError> {
    let devices = &world.cards[card].devices;
    /// `NVML_ERROR_INVALID_ARGUMENT`.
    const INVALID_ARGUMENT: u32 = 2;
    devices
        .get(index)
        .copied()
        .ok_or(GpuError::Code(INVALID_ARGUMENT))
}

impl GpuSource for SimGpu {
    fn card(&self) -> &GpuIdentity {
        &self.identity
    }

    fn devices(&mut self) -> Result<Vec<GpuIdentity>, GpuError> {
        let world = self.world()?;
        let devices = world.cards[self.card].devices.iter();
        Ok(devices
            .map(|device| GpuIdentity::clone(&world.devices[*device].identity))
            .collect())
    }

    fn memory(&mut self, index: usize) -> Result<Memory, GpuError> {
        let world = self.world()?;
        let device = device(&world, self.card, index)?;
        Ok(world.devices[device].memory())
    }

    fn processes(&mut self, index: usize, into: &mut Vec<RawProcess>) -> Result<bool, GpuError> {
        let mut world = self.world()?;
        let device = device(&world, self.card, index)?;
        world.devices[device].rows(into);
        world.list_was_read(device);
        Ok(true)
    }

    fn ring(&mut self, after: Duration) -> Result<RingRead, GpuError> {
        self.world()?.ring(self.card, after)
    }

    fn xids(&mut self) -> Result<Vec<XidEvent>, GpuError> {
        let mut world = self.world()?;
        Ok(std::mem::take(&mut world.cards[self.card].xids))
    }

    fn mig_profiles(&mut self) -> Result<Vec<MigProfile>, GpuError> {
        self.world().map(|_| cards::profiles())
    }
}
