//! What one drain of the ring adds to a device and its containers.

use std::collections::HashMap;
use std::time::Duration;

use super::device::DeviceState;
use super::tenancy::{Rest, tenancy};
use super::workloads::Workloads;
use crate::analyse::attribution::{Context, owner_of};
use crate::analyse::contention::{Charge, Tenancy, TenantId};
use crate::analyse::grants::ContainerLabels;
use crate::model::{Cause, Drain, GpuSeconds, Moment, PodName, Reading, Remainder};

impl DeviceState {
    /// Takes in a drain of the card's ring.
    pub(super) fn drain(
        &mut self,
        drain: &Reading<Drain>,
        context: Context<'_>,
        workloads: &mut Workloads,
        now: Moment,
    ) {
        let drain = match drain {
            Reading::Value(drain) => drain,
            other => {
                self.ring = other.as_ref().map(|_| ());
                self.active_tenants = other.as_ref().map(|_| 0);
                if matches!(other, Reading::Unsupported) {
                    self.contention.drain(None, now);
                }
                return;
            }
        };
        self.ring = Reading::Value(());
        self.busy += drain.busy;
        // Under MPS one server has everybody's time: it says nothing about clients.
        if self.mps {
            self.active_tenants = Reading::Unsupported;
            self.contention.drain(None, now);
            return;
        }
        if drain.samples == 0 {
            // A stepped clock: who is active now will be known in a while.
            self.active_tenants = Reading::Failed(Cause::Stale);
            return;
        }
        let mut others = Vec::new();
        let mut rest = Rest::default();
        let mut received: HashMap<ContainerLabels, (GpuSeconds, u32)> = HashMap::new();
        for row in &drain.rows {
            match owner_of(row.pid, &row.facts, context) {
                // A process whose container was named only after its end is a tenant all the same;
                // one of an older pod of the same name is not.
                Ok(owner) if !self.is_another(&owner.labels, owner.pod_uid.as_ref()) => {
                    let uid = owner.pod_uid.as_ref();
                    self.container(&owner.labels, uid, owner.evidence, context.names, now);
                    let entry = received.entry(owner.labels).or_default();
                    entry.0 += row.time;
                    entry.1 += row.samples;
                }
                // The agent's own canary is nobody's neighbour.
                Err(Remainder::Canary) => rest.canary += row.time,
                Err(Remainder::HostProcess) => {
                    rest.host += row.time;
                    others.push(row.time);
                }
                Ok(_) | Err(_) => {
                    rest.unknown += row.time;
                    others.push(row.time);
                }
            }
        }
        self.give_back(&mut received, &mut rest, &mut others);
        let mut pods: HashMap<PodName, GpuSeconds> = HashMap::new();
        for (labels, (time, _)) in &received {
            *pods.entry(labels.pod_name()).or_default() += *time;
        }
        let activity = Activity {
            busy: drain.busy,
            tenants: (pods.len() + others.len()) as f64,
        };
        let active: HashMap<&PodName, Duration> = pods
            .iter()
            .map(|(pod, time)| (pod, activity.of(*time)))
            .collect();
        let of_pods: Duration = active.values().sum();
        let of_all = of_pods + others.iter().map(|time| activity.of(*time)).sum();
        let longest = active.values().max().copied().unwrap_or_default();
        self.contended += (of_pods - longest).min(activity.of(drain.busy));
        self.active_tenants = Reading::Value(pods.len() as u32);
        let of_containers = received.iter().filter_map(|(labels, (time, _))| {
            let container = self.containers.get(labels)?;
            Some((container.tenant, *time))
        });
        let tenancy = tenancy(drain, of_containers, &rest);
        self.charge(&tenancy, now);
        for (labels, (time, samples)) in received {
            let neighbours = of_all - active.get(&labels.pod_name()).copied().unwrap_or_default();
            if let Some(container) = self.containers.get_mut(&labels) {
                let workload = container.workload(&labels.pod);
                let namespace = &labels.namespace;
                workloads.add(&self.identity.uuid, namespace, workload, time, now);
                container.gpu_time += time;
                container.gpu_samples += u64::from(samples);
                let active = activity.of(time);
                container.active += active;
                container.contended += active.min(neighbours);
            }
        }
    }

    /// Hands the canary's samples to those that they are of: in proportion to what each won, or, where
    /// nobody won any, to the one container that runs here; else they stay nobody's.
    ///
    /// The ring names the process that ran last. On a card that is idle between two kernels of a
    /// tenant, a probe in between takes the tenant's sample, though it ran for microseconds. On an
    /// H200, at ten probes a second, a tenant with gaps of 80 ms and 20.6 % of the time had 14.3 %,
    /// and one with gaps of 15 ms and 34.7 % had 31.9 %.
    fn give_back(
        &self,
        received: &mut HashMap<ContainerLabels, (GpuSeconds, u32)>,
        rest: &mut Rest,
        others: &mut [GpuSeconds],
    ) {
        let canary = std::mem::take(&mut rest.canary).0;
        let of_containers = received.values().map(|(time, _)| time.0).sum::<f64>();
        let all = of_containers + rest.host.0 + rest.unknown.0;
        if canary <= 0.0 {
            return;
        }
        if all <= 0.0 {
            match self.only_container() {
                Some(labels) => {
                    received.insert(labels.clone(), (GpuSeconds(canary), 0));
                }
                None => rest.canary.0 = canary,
            }
            return;
        }
        let factor = 1.0 + canary / all;
        let times = received.values_mut().map(|(time, _)| time);
        for time in times
            .chain([&mut rest.host, &mut rest.unknown])
            .chain(others)
        {
            time.0 *= factor;
        }
    }

    /// The container that has every process of the device but the canary's.
    fn only_container(&self) -> Option<&ContainerLabels> {
        let list = self.list.as_ref().filter(|list| list.complete)?;
        let mut owners = list
            .processes
            .iter()
            .filter(|process| process.owner != Err(Remainder::Canary));
        let known = owners.all(|process| process.owner.is_ok());
        let mut holders = list.holdings.keys();
        let only = holders
            .next()
            .filter(|labels| self.containers.contains_key(*labels));
        only.filter(|_| known && holders.next().is_none())
    }

    /// Puts the delays of the drain's time down to containers.
    fn charge(&mut self, tenancy: &Tenancy, now: Moment) {
        let tenants: HashMap<TenantId, bool> = self
            .containers
            .values()
            .map(|container| (container.tenant, container.resident))
            .collect();
        self.contention.retain(
            |tenant| tenants.contains_key(&tenant),
            |tenant| tenants.get(&tenant) == Some(&true) || tenancy.shares.contains_key(&tenant),
        );
        let charges = self.contention.drain(Some(tenancy), now);
        let charges: HashMap<TenantId, Charge> = charges
            .into_iter()
            .map(|charge| (charge.tenant, charge))
            .collect();
        let probes = self.contention.probes();
        for container in self.containers.values_mut() {
            container.weighed |= probes;
            if let Some(charge) = charges.get(&container.tenant) {
                container.charge(*charge);
            }
        }
    }
}

/// How long the tenants of one drain were active, from the time they received.
struct Activity {
    /// Of the card.
    busy: GpuSeconds,
    tenants: f64,
}

impl Activity {
    /// As if each other tenant of the drain had received as much meanwhile; at most for as long as
    /// the card was busy.
    fn of(&self, time: GpuSeconds) -> Duration {
        Duration::from_secs_f64((time.0 * self.tenants).min(self.busy.0).max(0.0))
    }
}
