//! The codes of findings that need only the node, each with its patience.

use std::time::Duration;

use crate::model::Severity;

/// How long a finding lasts without knowing, where what tells of it is not known to restart.
pub const BLIND: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);
/// Labels, allocatable and grants come by ways of their own: feature discovery looks once a minute,
/// and so does the agent at its node. A restart of the plugin is over by then too.
const SETTLED: Duration = Duration::from_secs(180);
/// A kubelet or plugin that restarts tells nothing, or less than there is, for up to a minute.
const RESTARTED: Duration = Duration::from_secs(90);
/// So long nothing of it was seen, before what comes and goes with the load is taken back.
const CALM: Duration = Duration::from_secs(300);
/// Judged by the minute: one that tells nothing is bridged, a second one is not.
const UNJUDGED: Duration = Duration::from_secs(90);
/// What happened once is told for so long.
const REMEMBERED: Duration = Duration::from_secs(900);
/// Who was alone for so long will not be joined by the next pod of a rollout.
const LONG: Duration = Duration::from_secs(3600);

/// One code. It never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Stable, `snake_case`: the label of `slicewatch_finding`.
    pub name: &'static str,
    pub severity: Severity,
    /// It must be so for this long without a break.
    pub raise_after: Duration,
    /// It must not be so for this long without a break.
    pub clear_after: Duration,
    /// After so long without knowing, it is a finding no more, and what led to one is forgotten.
    pub blind_after: Duration,
}

macro_rules! codes {
    ($($constant:ident = $name:literal $severity:ident, $raise:expr, $clear:expr, $blind:expr;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub(super) const $constant: Code = Code {
                name: $name,
                severity: Severity::$severity,
                raise_after: $raise,
                clear_after: $clear,
                blind_after: $blind,
            };
        )*

        /// Every code that the agent itself can find.
        pub const fn codes() -> &'static [Code] {
            &[$($constant),*]
        }
    };
}

codes! {
    SHARING_NOT_IN_FORCE = "sharing_not_in_force" Error, SETTLED, NOW, BLIND;
    LABELS_OUT_OF_DATE = "labels_out_of_date" Warning, SETTLED, NOW, BLIND;
    MIG_WITH_STRATEGY_NONE = "mig_with_strategy_none" Error, SETTLED, NOW, BLIND;
    GRANTED_OVER_ADVERTISED = "granted_over_advertised" Warning, SETTLED, RESTARTED, RESTARTED;
    REQUEST_GREATER_THAN_ONE = "request_greater_than_one" Warning, MINUTE, RESTARTED, RESTARTED;
    CONTAINERS_REQUEST_ONE_EACH = "containers_request_one_each" Warning, MINUTE, RESTARTED, RESTARTED;
    REPLICA_SHARES_NOTHING = "replica_shares_nothing" Info, LONG, RESTARTED, RESTARTED;
    FAULT_DOMAIN_SHARED = "fault_domain_shared" Info, MINUTE, CALM, BLIND;
    PROCESS_WITHOUT_ALLOCATION = "process_without_allocation" Warning, MINUTE, RESTARTED, RESTARTED;
    TENANT_OVER_FAIR_SHARE = "tenant_over_fair_share" Warning, MINUTE, CALM, BLIND;
    REPLICAS_TREATED_AS_ISOLATED = "replicas_treated_as_isolated" Warning, NOW, REMEMBERED, BLIND;
    NOISY_NEIGHBOUR = "noisy_neighbour" Warning, Duration::from_secs(110), CALM, UNJUDGED;
    HOST_PID_NAMESPACE_MISSING = "host_pid_namespace_missing" Error, NOW, NOW, BLIND;
    KUBELET_SOCKET_REFUSED = "kubelet_socket_refused" Warning, NOW, NOW, BLIND;
    CLUSTER_ACCESS_REFUSED = "cluster_access_refused" Warning, NOW, NOW, BLIND;
    CLUSTER_NOT_ASKED = "cluster_not_asked" Warning, NOW, NOW, BLIND;
    NVML_LIBRARY_MISSING = "nvml_library_missing" Error, NOW, NOW, BLIND;
    TOO_MANY_FINDINGS = "too_many_findings" Info, NOW, NOW, BLIND;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_names_of_their_own() {
        let names: BTreeSet<_> = codes().iter().map(|code| code.name).collect();
        assert_eq!(names.len(), codes().len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        }
    }
}
