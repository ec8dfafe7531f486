//! The simulated node's files: /proc, and the kubelet's log folders.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use super::device::{Device, Place, Process};
use super::lock;
use super::names;
use super::plan::{CgroupForm, Qos};
use super::pods::{Container, Pod};
use super::world::World;
use crate::model::HostFiles;

/// The inode of the host's own PID namespace (`PROC_PID_INIT_INO` in the kernel).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// [`HostFiles`] of the simulated node, as it is at the time of each read.
pub(super) struct SimHost {
    world: Arc<Mutex<World>>,
}

impl SimHost {
    pub(super) fn new(world: Arc<Mutex<World>>) -> Self {
        Self { world }
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

impl HostFiles for SimHost {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let world = lock(&self.world);
        match parts(path)[..] {
            ["proc", "1", file] => read_init(&world, file),
            ["proc", pid, file] => {
                let process = world.process(pid)?;
                read_process(&world, process, file)
            }
            ["var", "log", "pods", folder, container, file] => {
                let pod = world.pod_of_folder(folder)?;
                let container = pod.container(container)?;
                if !container.logs().any(|(name, _)| name == file) {
                    return Err(missing());
                }
                Ok(b"2026-11-20T00:00:00.000000000Z stdout F ready\n".to_vec())
            }
            _ => Err(missing()),
        }
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        let world = lock(&self.world);
        match parts(path)[..] {
            ["proc", "self" | "1", "ns", "pid"] => Ok(HOST_PID_NAMESPACE.to_owned()),
            ["proc", pid, "ns", "pid"] => {
                let process = world.process(pid)?;
                Ok(match process.place {
                    Place::Pod(pod) => format!("pid:[{}]", 4_026_532_000 + pod % 100_000),
                    Place::Host(_) | Place::Nobody => HOST_PID_NAMESPACE.to_owned(),
                })
            }
            ["var", "log", "containers", link] => world
                .links()
                .find(|(name, _)| name == link)
                .map(|(_, target)| target)
                .ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let world = lock(&self.world);
        match parts(path)[..] {
            ["proc"] => {
                let processes = world.devices.iter().flat_map(Device::contexts);
                let pids: BTreeSet<u32> = processes.map(|process| process.pid.0).collect();
                Ok(["1", "self", "stat", "uptime"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(pids.iter().filter(|pid| **pid > 1).map(u32::to_string))
                    .collect())
            }
            ["var", "log", "pods"] => Ok(world.pods.values().map(Pod::folder).collect()),
            ["var", "log", "pods", folder] => {
                let pod = world.pod_of_folder(folder)?;
                let containers = pod.containers.iter();
                Ok(containers.map(|one| one.name.to_string()).collect())
            }
            ["var", "log", "pods", folder, container] => {
                let pod = world.pod_of_folder(folder)?;
                let container = pod.container(container)?;
                Ok(container.logs().map(|(name, _)| name).collect())
            }
            ["var", "log", "containers"] => Ok(world.links().map(|(name, _)| name).collect()),
            _ => Err(missing()),
        }
    }
}

impl Pod {
    /// Its folder's name in `/var/log/pods`.
    fn folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }

    fn container(&self, name: &str) -> io::Result<&Container> {
        self.containers
            .iter()
            .find(|container| &*container.name == name)
            .ok_or_else(missing)
    }
}

impl Container {
    /// Names and ids of its kept logs.
    fn logs(&self) -> impl Iterator<Item = (String, &str)> {
        let before = self.previous.iter().map(|id| {
            (
                format!("{}.log", self.restarts.saturating_sub(1)),
                id.as_str(),
            )
        });
        before.chain([(format!("{}.log", self.restarts), self.id.as_str())])
    }
}

impl World {
    fn process(&self, pid: &str) -> io::Result<&Process> {
        let wanted: u32 = pid.parse().map_err(|_| missing())?;
        self.devices
            .iter()
            .flat_map(Device::contexts)
            .find(|process| process.pid.0 == wanted && wanted > 0)
            .ok_or_else(missing)
    }

    fn pod_of_folder(&self, folder: &str) -> io::Result<&Pod> {
        self.pods
            .values()
            .find(|pod| pod.folder() == folder)
            .ok_or_else(missing)
    }

    /// Links of `/var/log/containers` and where they lead.
    fn links(&self) -> impl Iterator<Item = (String, String)> {
        self.pods.values().flat_map(|pod| {
            pod.containers.iter().flat_map(|container| {
                container.logs().map(|(log, id)| {
                    let link = names::log_link(&pod.name, &pod.namespace, &container.name, id);
                    let folder = pod.folder();
                    (
                        link,
                        format!("/var/log/pods/{folder}/{}/{log}", container.name),
                    )
                })
            })
        })
    }
}

fn stat(pid: u32, comm: &str, started: u64) -> Vec<u8> {
    format!(
        "{pid} ({comm}) S 1 {pid} {pid} 0 -1 4194560 201840 0 12 0 8123 2210 0 0 20 0 27 0 \
         {started} 41231802368 612345 18446744073709551615 1 1 0 0 0 0 0 16781312 17642 0 0 0 17 5 \
         0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )
    .into_bytes()
}

fn read_init(world: &World, file: &str) -> io::Result<Vec<u8>> {
    match file {
        "stat" => Ok(stat(1, "systemd", 3)),
        "comm" => Ok(b"systemd\n".to_vec()),
        "cgroup" => Ok(cgroup(world.plan.cgroups, "/init.scope")),
        _ => Err(missing()),
    }
}

fn read_process(world: &World, process: &Process, file: &str) -> io::Result<Vec<u8>> {
    match file {
        "stat" => Ok(stat(process.pid.0, &process.comm, process.started)),
        "comm" => Ok(format!("{}\n", process.comm).into_bytes()),
        "cgroup" if process.unreadable => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        "cgroup" => {
            let form = world.plan.cgroups;
            let path = match &process.place {
                Place::Host(path) => path.to_string(),
                Place::Nobody => return Err(missing()),
                Place::Pod(number) => {
                    let pod = world.pods.get(number).ok_or_else(missing)?;
                    pod_path(form, pod)
                }
            };
            Ok(cgroup(form, &path))
        }
        _ => Err(missing()),
    }
}

/// The path of the container that uses the GPU.
fn pod_path(form: CgroupForm, pod: &Pod) -> String {
    let id = &pod.containers[0].id;
    match form {
        CgroupForm::Systemd(runtime) => {
            let (slices, middle) = match pod.qos {
                Qos::Guaranteed => ("", ""),
                Qos::Burstable => ("/kubepods-burstable.slice", "-burstable"),
                Qos::BestEffort => ("/kubepods-besteffort.slice", "-besteffort"),
            };
            let uid = pod.uid.as_str().replace('-', "_");
            format!("/kubepods.slice{slices}/kubepods{middle}-pod{uid}.slice/{runtime}-{id}.scope")
        }
        CgroupForm::Cgroupfs | CgroupForm::V1 => {
            let middle = match pod.qos {
                Qos::Guaranteed => "",
                Qos::Burstable => "/burstable",
                Qos::BestEffort => "/besteffort",
            };
            format!("/kubepods{middle}/pod{}/{id}", pod.uid)
        }
    }
}

/// The file's text. Under v1 each controller has a line, and the v2 hierarchy is mounted empty.
fn cgroup(form: CgroupForm, path: &str) -> Vec<u8> {
    const V1: [&str; 12] = [
        "name=systemd",
        "cpu,cpuacct",
        "memory",
        "devices",
        "freezer",
        "net_cls,net_prio",
        "blkio",
        "perf_event",
        "hugetlb",
        "cpuset",
        "pids",
        "rdma",
    ];
    match form {
        CgroupForm::Systemd(_) | CgroupForm::Cgroupfs => format!("0::{path}\n").into_bytes(),
        CgroupForm::V1 => {
            let lines = V1.iter().enumerate().rev();
            let lines = lines.map(|(index, name)| format!("{}:{name}:{path}\n", index + 1));
            (lines.collect::<String>() + "0::/\n").into_bytes()
        }
    }
}
