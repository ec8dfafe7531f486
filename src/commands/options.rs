//! Settings of the agent: flags over environment over one TOML file over defaults.

mod period;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::analyse::lease::{CanaryMode, LeaseSettings};
use crate::collect::canary::CanarySettings;
use crate::collect::sampler::SamplerSettings;
use crate::commands::pipeline::PipelineSettings;
use crate::model::GpuUuid;

pub use period::Period;

/// Where the kubelet listens unless told otherwise.
pub const KUBELET_SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Most characters of a file's line that an error repeats.
const MAX_QUOTED: usize = 80;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error(
        "cannot read the configuration file {path:?}; give --config the path of a readable TOML file in UTF-8"
    )]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// In one line: where, what stands there, and what was expected.
    #[error("the configuration file {path:?} is not valid in line {line}, {text:?}: {words}")]
    Parse {
        path: PathBuf,
        line: usize,
        text: String,
        words: String,
    },
    #[error("{name} = {value}: {mend}")]
    Value {
        name: &'static str,
        value: String,
        mend: &'static str,
    },
}

/// Everything that can be set, each by flag, by environment (`SLICEWATCH_` and the name) and by
/// file (the flag's name).
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Address to serve metrics on [default: 0.0.0.0:9735]
    #[arg(long, env = "SLICEWATCH_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// A YAML file that asks for TLS and passwords, in the form of the Prometheus exporter-toolkit;
    /// followed as it changes [default: plain HTTP, open to all]
    #[arg(
        long = "web.config.file",
        alias = "web-config-file",
        env = "SLICEWATCH_WEB_CONFIG_FILE",
        value_name = "PATH"
    )]
    pub web_config_file: Option<PathBuf>,
    /// Serve the live page at /, and keep 15 minutes of history for it [default: true]
    #[arg(long = "web.page", alias = "web-page", env = "SLICEWATCH_WEB_PAGE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub web_page: Option<bool>,
    /// Name of the Kubernetes node, whose pods the API server is asked for
    #[arg(long, env = "SLICEWATCH_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Path of libnvidia-ml.so.1 [default: the loader's, then the usual driver roots]
    #[arg(long, env = "SLICEWATCH_NVML_LIBRARY", value_name = "PATH")]
    pub nvml_library: Option<PathBuf>,
    /// A driver call longer than this is told as hung [default: 5s]
    #[arg(long, env = "SLICEWATCH_NVML_HANG_AFTER", value_name = "TIME")]
    pub nvml_hang_after: Option<Period>,
    /// The kubelet's pod-resources socket, or `none` on a machine without a kubelet
    /// [default: /var/lib/kubelet/pod-resources/kubelet.sock]
    #[arg(long, env = "SLICEWATCH_KUBELET_SOCKET", value_name = "PATH")]
    pub kubelet_socket: Option<PathBuf>,
    /// How often the kubelet is asked; a new process asks at once [default: 10s]
    #[arg(long, env = "SLICEWATCH_KUBELET_PERIOD", value_name = "TIME")]
    pub kubelet_period: Option<Period>,
    /// A kubeconfig to ask the API server with, or `none` to do without the API server
    /// [default: that of KUBECONFIG, else the pod's service account; neither: none]
    #[arg(long, env = "SLICEWATCH_KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// Names of GPU resources besides nvidia.com/*, comma-separated
    #[arg(
        long,
        env = "SLICEWATCH_GPU_RESOURCES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub gpu_resources: Option<Vec<String>>,
    /// The host's /proc [default: /proc]
    #[arg(long, env = "SLICEWATCH_PROC_ROOT", value_name = "PATH")]
    pub proc_root: Option<PathBuf>,
    /// The host's pod logs, whose folder names say which pod a UID is [default: /var/log/pods]
    #[arg(long, env = "SLICEWATCH_POD_LOG_DIR", value_name = "PATH")]
    pub pod_log_dir: Option<PathBuf>,
    /// The host's container logs, whose names say which container an id is
    /// [default: /var/log/containers]
    #[arg(long, env = "SLICEWATCH_CONTAINER_LOG_DIR", value_name = "PATH")]
    pub container_log_dir: Option<PathBuf>,
    /// Believe that this PID namespace is the one whose PIDs the driver tells (under kind)
    #[arg(long, env = "SLICEWATCH_ASSUME_HOST_PID_NAMESPACE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub assume_host_pid_namespace: Option<bool>,
    /// How often device memory is read [default: 100ms]
    #[arg(long, env = "SLICEWATCH_MEMORY_PERIOD", value_name = "TIME")]
    pub memory_period: Option<Period>,
    /// How often the driver's utilization ring is drained [default: 3s]
    #[arg(long, env = "SLICEWATCH_DRAIN_PERIOD", value_name = "TIME")]
    pub drain_period: Option<Period>,
    /// Free framebuffer under this share of the total is pressure [default: 0.05]
    #[arg(long, env = "SLICEWATCH_PRESSURE_FLOOR_RATIO", value_name = "RATIO")]
    pub pressure_floor_ratio: Option<f64>,
    /// Which GPUs with a tenant have a latency canary: those that are shared, all, or none
    /// [default: auto]
    #[arg(
        long,
        env = "SLICEWATCH_CANARY",
        value_enum,
        value_name = "auto|always|off"
    )]
    pub canary: Option<Canary>,
    /// Probes a second and GPU of the canary, on average [default: 10]
    #[arg(long, env = "SLICEWATCH_CANARY_RATE", value_name = "NUMBER")]
    pub canary_rate: Option<f64>,
    /// Let the canary be a client of MPS too
    #[arg(long, env = "SLICEWATCH_CANARY_UNDER_MPS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub canary_under_mps: Option<bool>,
    /// UUIDs of the MIG instances that have a canary, comma-separated [default: none]
    #[arg(
        long,
        env = "SLICEWATCH_CANARY_MIG_INSTANCES",
        value_name = "UUIDS",
        value_delimiter = ','
    )]
    pub canary_mig_instances: Option<Vec<String>>,
    /// Path of libcuda.so.1, for the canary [default: the loader's, then the usual driver roots]
    #[arg(long, env = "SLICEWATCH_CUDA_LIBRARY", value_name = "PATH")]
    pub cuda_library: Option<PathBuf>,
    /// Append each of the canary's probes to a file, for studies
    #[arg(
        long,
        env = "SLICEWATCH_CANARY_TRACE",
        value_name = "PATH",
        hide = true
    )]
    pub canary_trace: Option<PathBuf>,
    /// Give the delay histogram in native buckets too, to those who read protobuf
    #[arg(long, env = "SLICEWATCH_NATIVE_HISTOGRAMS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub native_histograms: Option<bool>,
}

/// Who has a latency canary, of those with a tenant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canary {
    /// GPUs that are shared.
    #[default]
    Auto,
    /// All.
    Always,
    /// None.
    Off,
}

/// Where the kubelet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kubelet {
    None,
    Socket(PathBuf),
}

/// Which API server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cluster {
    None,
    /// As `KUBECONFIG` or the pod's service account says.
    OfEnvironment,
    Kubeconfig(PathBuf),
}

/// What the agent runs with: checked, complete.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub web_config_file: Option<PathBuf>,
    pub web_page: bool,
    pub node_name: Option<Arc<str>>,
    pub nvml_library: Option<PathBuf>,
    pub nvml_hang_after: Duration,
    pub kubelet: Kubelet,
    pub kubelet_period: Duration,
    pub cluster: Cluster,
    pub gpu_resources: Vec<String>,
    pub proc_root: String,
    pub pod_log_dir: String,
    pub container_log_dir: String,
    pub assume_host_pid_namespace: bool,
    pub sampler: SamplerSettings,
    pub canary: CanarySettings,
    pub pipeline: PipelineSettings,
}

impl Options {
    /// The file's options.
    ///
    /// # Errors
    /// Unreadable; not TOML; an unknown key, with its line; a value of the wrong form.
    pub fn from_file(path: &Path) -> Result<Self, OptionsError> {
        let text = std::fs::read_to_string(path).map_err(|source| OptionsError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            OptionsError::Parse {
                path: path.to_owned(),
                line: line + 1,
                text: text
                    .lines()
                    .nth(line)
                    .unwrap_or_default()
                    .chars()
                    .take(MAX_QUOTED)
                    .collect(),
                words: error.message().replace('\n', "; "),
            }
        })
    }

    /// These options, and `under` where they say nothing.
    pub fn over(self, under: Self) -> Self {
        let Self {
            listen,
            web_config_file,
            web_page,
            node_name,
            nvml_library,
            nvml_hang_after,
            kubelet_socket,
            kubelet_period,
            kubeconfig,
            gpu_resources,
            proc_root,
            pod_log_dir,
            container_log_dir,
            assume_host_pid_namespace,
            memory_period,
            drain_period,
            pressure_floor_ratio,
            canary,
            canary_rate,
            canary_under_mps,
            canary_mig_instances,
            cuda_library,
            canary_trace,
            native_histograms,
        } = self;
        Self {
            listen: listen.or(under.listen),
            web_config_file: web_config_file.or(under.web_config_file),
            web_page: web_page.or(under.web_page),
            node_name: node_name.or(under.node_name),
            nvml_library: nvml_library.or(under.nvml_library),
            nvml_hang_after: nvml_hang_after.or(under.nvml_hang_after),
            kubelet_socket: kubelet_socket.or(under.kubelet_socket),
            kubelet_period: kubelet_period.or(under.kubelet_period),
            kubeconfig: kubeconfig.or(under.kubeconfig),
            gpu_resources: gpu_resources.or(under.gpu_resources),
            proc_root: proc_root.or(under.proc_root),
            pod_log_dir: pod_log_dir.or(under.pod_log_dir),
            container_log_dir: container_log_dir.or(under.container_log_dir),
            assume_host_pid_namespace: assume_host_pid_namespace
                .or(under.assume_host_pid_namespace),
            memory_period: memory_period.or(under.memory_period),
            drain_period: drain_period.or(under.drain_period),
            pressure_floor_ratio: pressure_floor_ratio.or(under.pressure_floor_ratio),
            canary: canary.or(under.canary),
            canary_rate: canary_rate.or(under.canary_rate),
            canary_under_mps: canary_under_mps.or(under.canary_under_mps),
            canary_mig_instances: canary_mig_instances.or(under.canary_mig_instances),
            cuda_library: cuda_library.or(under.cuda_library),
            canary_trace: canary_trace.or(under.canary_trace),
            native_histograms: native_histograms.or(under.native_histograms),
        }
    }

    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// The first value out of its range, by name.
    pub fn settle(self) -> Result<Settings, OptionsError> {
        let default = SamplerSettings::default();
        let memory_period = self
            .memory_period
            .map_or(default.memory_period, |period| period.0);
        let drain_period = self
            .drain_period
            .map_or(default.drain_period, |period| period.0);
        between(
            "memory-period",
            memory_period,
            Duration::from_millis(20)..=Duration::from_secs(1),
            "write 20ms to 1s: a peak between two readings is not seen",
        )?;
        between(
            "drain-period",
            drain_period,
            Duration::from_secs(1)..=Duration::from_secs(8),
            "write 1s to 8s: the driver's ring holds 10 s",
        )?;
        let kubelet_period = self
            .kubelet_period
            .map_or(Duration::from_secs(10), |period| period.0);
        between(
            "kubelet-period",
            kubelet_period,
            Duration::from_secs(1)..=Duration::from_secs(300),
            "write 1s to 5m",
        )?;
        let nvml_hang_after = self
            .nvml_hang_after
            .map_or(Duration::from_secs(5), |period| period.0);
        between(
            "nvml-hang-after",
            nvml_hang_after,
            Duration::from_millis(500)..=Duration::from_secs(300),
            "write 500ms to 5m",
        )?;
        let floor_ratio = self.pressure_floor_ratio.unwrap_or(default.floor_ratio);
        if !(0.0..1.0).contains(&floor_ratio) {
            return Err(OptionsError::Value {
                name: "pressure-floor-ratio",
                value: floor_ratio.to_string(),
                mend: "write a ratio from 0 to below 1, such as 0.05 for five percent",
            });
        }
        let canary = CanarySettings::default();
        let rate = self.canary_rate.unwrap_or(canary.rate);
        if !(0.1..=200.0).contains(&rate) {
            return Err(OptionsError::Value {
                name: "canary-rate",
                value: rate.to_string(),
                mend: "write 0.1 to 200 probes a second: at 1,000 tenants lose 3 % of their time",
            });
        }
        let proc_root = text("proc-root", self.proc_root, "/proc")?;
        Ok(Settings {
            listen: self
                .listen
                .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 9735))),
            web_config_file: self.web_config_file,
            web_page: self.web_page.unwrap_or(true),
            node_name: self
                .node_name
                .filter(|name| !name.is_empty())
                .map(Into::into),
            nvml_library: self.nvml_library,
            nvml_hang_after,
            kubelet: match self.kubelet_socket {
                Some(path) if path.as_os_str() == "none" => Kubelet::None,
                Some(path) => Kubelet::Socket(path),
                None => Kubelet::Socket(KUBELET_SOCKET.into()),
            },
            kubelet_period,
            cluster: match self.kubeconfig {
                Some(path) if path.as_os_str() == "none" => Cluster::None,
                Some(path) if !path.as_os_str().is_empty() => Cluster::Kubeconfig(path),
                _ => Cluster::OfEnvironment,
            },
            gpu_resources: self.gpu_resources.unwrap_or_default(),
            proc_root: proc_root.clone(),
            pod_log_dir: text("pod-log-dir", self.pod_log_dir, "/var/log/pods")?,
            container_log_dir: text(
                "container-log-dir",
                self.container_log_dir,
                "/var/log/containers",
            )?,
            assume_host_pid_namespace: self.assume_host_pid_namespace.unwrap_or(false),
            sampler: SamplerSettings {
                memory_period,
                drain_period,
                floor_ratio,
                ..default
            },
            canary: CanarySettings {
                rate,
                library: self.cuda_library,
                trace: self.canary_trace,
                proc_root,
                ..canary
            },
            pipeline: PipelineSettings {
                lease: LeaseSettings {
                    mode: match self.canary.unwrap_or_default() {
                        Canary::Auto => CanaryMode::Auto,
                        Canary::Always => CanaryMode::Always,
                        Canary::Off => CanaryMode::Off,
                    },
                    floor_ratio,
                    under_mps: self.canary_under_mps.unwrap_or(false),
                    mig_instances: self
                        .canary_mig_instances
                        .into_iter()
                        .flatten()
                        .map(GpuUuid::new)
                        .collect(),
                    ..LeaseSettings::default()
                },
                native_histograms: self.native_histograms.unwrap_or(false),
            },
        })
    }
}

/// Options of a command line, over those of its `--config` file.
///
/// # Errors
/// As of [`Options::from_file`] and [`Options::settle`].
pub fn settings(flags: Options, config: Option<&Path>) -> Result<Settings, OptionsError> {
    let file = config
        .map(Options::from_file)
        .transpose()?
        .unwrap_or_default();
    flags.over(file).settle()
}

fn between(
    name: &'static str,
    value: Duration,
    range: std::ops::RangeInclusive<Duration>,
    mend: &'static str,
) -> Result<(), OptionsError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(OptionsError::Value {
        name,
        value: Period(value).to_string(),
        mend,
    })
}

fn text(name: &'static str, path: Option<PathBuf>, default: &str) -> Result<String, OptionsError> {
    let Some(path) = path else {
        return Ok(default.to_owned());
    };
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(OptionsError::Value {
            name,
            value: path.display().to_string(),
            mend: "write an absolute path in UTF-8",
        }),
    }
}

#[cfg(test)]
mod tests;
