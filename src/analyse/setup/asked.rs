//! What could not be looked at.

use super::cluster::Cluster;
use super::found::{Found, finding, object};
use super::mend::quoted;
use crate::model::Severity;
use crate::model::setup::{Asked, Failed, Refused, SetupFinding};

/// Everything that was asked of the API server before nodes and pods.
pub(super) fn rules(cluster: &Cluster, found: &mut Found) {
    let setup = &cluster.setup;
    answer(&setup.policies, found);
    answer(&setup.operators, found);
    answer(&setup.daemon_sets, found);
    answer(&setup.plugin_pods, found);
    answer(&setup.runtime_classes, found);
    for asked in cluster.profiles.asked() {
        answer(asked, found);
    }
}

/// One question: a finding if it was not answered.
pub(super) fn answer<T>(asked: &Asked<T>, found: &mut Found) {
    match asked {
        Asked::Read(_) | Asked::Absent => {}
        Asked::Refused(refused) => found.add(refused_finding(refused)),
        Asked::Failed(failed) => found.add(failed_finding(failed)),
    }
}

fn refused_finding(refused: &Refused) -> SetupFinding {
    let Refused {
        verb,
        group,
        resource,
        namespace,
        words,
    } = refused;
    let namespace = namespace.as_deref();
    let full = full(resource, group);
    let place = place(namespace);
    let (role, binding, role_kind) = match namespace {
        Some(_) => ("role", "rolebinding", "--role"),
        None => ("clusterrole", "clusterrolebinding", "--clusterrole"),
    };
    let scope = namespace.map_or_else(String::new, |it| format!(" -n {}", quoted(it)));
    let name = format!("slicewatch-check-{verb}-{resource}");
    let mut mend = vec![format!(
        "kubectl{scope} create {role} {} --verb={} --resource={}",
        quoted(&name),
        quoted(verb),
        quoted(&full),
    )];
    if let Some(user) = user_in(words) {
        mend.push(format!(
            "kubectl{scope} create {binding} {} {role_kind}={} --user={}",
            quoted(&name),
            quoted(&name),
            quoted(user),
        ));
    }
    finding(
        "rights_missing",
        Severity::Warning,
        object(&full, namespace, ""),
        format!(
            "The right to {verb} {full} {place} is missing, so what depends on it was not checked: \
             {words}. Who may grant rights can paste the commands."
        ),
    )
    .field(format!("{verb} {full}"))
    .expected("allowed")
    .found("refused")
    .mend(mend)
}

fn failed_finding(failed: &Failed) -> SetupFinding {
    let full = full(&failed.resource, &failed.group);
    let namespace = failed.namespace.as_deref();
    finding(
        "api_unavailable",
        Severity::Error,
        object(&full, namespace, ""),
        format!(
            "{full} {} could not be read, so what depends on it was not checked: {}",
            place(namespace),
            failed.words
        ),
    )
}

fn full(resource: &str, group: &str) -> String {
    match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    }
}

fn place(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "of the whole cluster".to_owned(),
    }
}

/// Who asked, as the API server has it: `User "system:serviceaccount:ns:name" cannot list ...`.
fn user_in(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("User \"")?;
    let (user, _) = rest.split_once('"')?;
    (!user.is_empty()).then_some(user)
}
