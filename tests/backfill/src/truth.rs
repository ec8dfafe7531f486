//! What really happened on the simulated node, looked at now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use slicewatch::model::Moment;
use slicewatch::simulate::{SimNode, Truth};

/// The whole run.
#[derive(Serialize)]
pub(crate) struct Record {
    scenario: String,
    looks: Vec<Look>,
    #[serde(skip)]
    begin: Moment,
    #[serde(skip)]
    every: Duration,
    #[serde(skip)]
    next: Duration,
}

/// One instant; totals run since the start.
#[derive(Serialize)]
struct Look {
    /// Seconds since 1970, by a clock that is not stepped.
    at: f64,
    gpus: BTreeMap<String, Gpu>,
    pods: Vec<Pod>,
}

#[derive(Serialize)]
struct Gpu {
    up: bool,
    used_bytes: u64,
    unexplained_bytes: u64,
    busy_seconds: f64,
    contended_seconds: f64,
    /// What probes had to wait on the mean, added up over time.
    expected_delay: f64,
    pressure_seconds: f64,
    xids: BTreeMap<u32, u64>,
}

#[derive(Serialize)]
struct Pod {
    gpu_uuid: String,
    namespace: String,
    pod: String,
    container: String,
    memory_bytes: u64,
    gpu_seconds: f64,
    active_seconds: f64,
    contended_seconds: f64,
    /// Half of it is what the pod added to a newcomer's mean wait, added up over time.
    turn_seconds: f64,
    processes: usize,
    granted: u32,
    exits_under_pressure: u64,
}

impl Record {
    pub(crate) fn new(scenario: &str, every: Duration, begin: Moment) -> Self {
        Self {
            scenario: scenario.to_owned(),
            looks: Vec::new(),
            begin,
            every,
            next: begin.monotonic,
        }
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, node: &SimNode) {
        if node.now().monotonic >= self.next {
            self.next += self.every;
            self.looks.push(Look::of(&node.truth(), self.begin));
        }
    }
}

impl Look {
    fn of(truth: &Truth, begin: Moment) -> Self {
        let gpus = truth.devices.iter().map(|(uuid, device)| {
            let gpu = Gpu {
                up: device.up,
                used_bytes: device.used.0,
                unexplained_bytes: device.unexplained.0,
                busy_seconds: device.busy.0,
                contended_seconds: device.contended.as_secs_f64(),
                expected_delay: device.expected_delay,
                pressure_seconds: device.pressure.as_secs_f64(),
                xids: device.xids.clone(),
            };
            (uuid.to_string(), gpu)
        });
        let present = truth.tenants.iter().filter(|(_, tenant)| tenant.present);
        Self {
            at: (begin.unix + truth.at.since(begin)).as_secs_f64(),
            gpus: gpus.collect(),
            pods: present
                .map(|(key, tenant)| Pod {
                    gpu_uuid: key.gpu_uuid.to_string(),
                    namespace: tenant.namespace.to_string(),
                    pod: tenant.pod.to_string(),
                    container: key.container.to_string(),
                    memory_bytes: tenant.memory.0,
                    gpu_seconds: tenant.gpu_seconds.0,
                    active_seconds: tenant.active.as_secs_f64(),
                    contended_seconds: tenant.contended.as_secs_f64(),
                    turn_seconds: tenant.turn_seconds,
                    processes: tenant.processes.len(),
                    granted: tenant.granted,
                    exits_under_pressure: tenant.exits_under_pressure,
                })
                .collect(),
        }
    }
}
