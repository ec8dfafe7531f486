//! XIDs, by an event set that waits for nothing.

use std::ptr;
use std::sync::Arc;

use nvml_wrapper_sys::bindings as sys;

use super::{Device, EventSet, Session, meaning};
use crate::model::{GpuError, XidEvent};

/// XIDs taken in one go; what is left comes with the next.
const DRAIN_MAX: usize = 16;

/// The XIDs of one card since it was made.
pub(in super::super) struct Events {
    session: Arc<Session>,
    set: EventSet,
}

impl Events {
    /// Registers for the XIDs of this card.
    pub(in super::super) fn of(session: &Arc<Session>, device: Device) -> Result<Self, GpuError> {
        let mut set = ptr::null_mut();
        call!(session.lib(), nvmlEventSetCreate, &mut set)?;
        let events = Self {
            session: Arc::clone(session),
            set: EventSet(set),
        };
        let xids = u64::from(sys::nvmlEventTypeXidCriticalError);
        call!(session.lib(), nvmlDeviceRegisterEvents, device.0, xids, set)?;
        Ok(events)
    }

    /// Those that wait, at most [`DRAIN_MAX`].
    pub(in super::super) fn drain(&mut self) -> Result<Vec<XidEvent>, GpuError> {
        let lib = self.session.lib();
        let mut xids = Vec::new();
        while xids.len() < DRAIN_MAX {
            let mut event = sys::nvmlEventData_t {
                device: ptr::null_mut(),
                eventType: 0,
                eventData: 0,
                gpuInstanceId: 0,
                computeInstanceId: 0,
            };
            let waited = if lib.nvmlEventSetWait_v2.is_ok() {
                call!(lib, nvmlEventSetWait_v2, self.set.0, &mut event, 0)
            } else {
                call!(lib, nvmlEventSetWait, self.set.0, &mut event, 0)
            };
            match waited {
                Ok(()) if event.eventType == u64::from(sys::nvmlEventTypeXidCriticalError) => {
                    // Anything wider is no XID that exists.
                    let xid = u32::try_from(event.eventData).unwrap_or(u32::MAX);
                    xids.push(XidEvent { xid });
                }
                Ok(()) => break,
                Err(GpuError::Timeout) => break,
                // What was taken is gone from the driver: deliver it, the error comes again.
                Err(_) if !xids.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(xids)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = call!(self.session.lib(), nvmlEventSetFree, self.set.0);
    }
}
