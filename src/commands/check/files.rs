//! `check --config-file`: configurations of the device plugin, linted offline.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::analyse::plugin_config::{Configuration, Input, Lint, MAX_BYTES, PluginConfig, lint};
use crate::publish::check::{Advertised, FileFinding, FileReport, Profile};

/// The name that stands for standard input.
const STDIN: &str = "-";

/// Why a file could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(
        "it cannot be read ({source}); give --config-file the path of a readable file, or - for standard input"
    )]
    Read { source: std::io::Error },
    #[error(
        "it is larger than {MAX_BYTES} bytes, which is the most that Kubernetes takes in a \
         ConfigMap; is it the right file? A configuration has a few hundred bytes"
    )]
    TooLarge,
    #[error("it is no text in UTF-8 from byte {at} on; is it the right file? Save it as UTF-8")]
    NotText { at: usize },
}

/// Whether a path stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == STDIN
}

/// Looks at a file.
pub(super) fn check(path: &Path) -> Result<FileReport, FileError> {
    let (file, text) = if is_stdin(path) {
        let text = read(Ok(std::io::stdin().lock()))?;
        ("standard input".to_owned(), text)
    } else {
        (path.display().to_string(), read(File::open(path))?)
    };
    Ok(report(file, &lint(&text, Input::File)))
}

/// All of a text, or nothing: what is over the limit is not read to its end.
fn read(source: std::io::Result<impl Read>) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    source
        .and_then(|source| source.take(most).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { source })?;
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotText {
        at: error.utf8_error().valid_up_to(),
    })
}

fn report(file: String, lint: &Lint) -> FileReport {
    FileReport {
        file,
        profiles: lint.configurations.iter().map(profile).collect(),
        findings: lint
            .all()
            .map(|finding| FileFinding {
                code: finding.code.into(),
                severity: finding.severity,
                line: finding.line,
                column: finding.column,
                path: finding.path.clone(),
                message: finding.message.clone(),
                mend: finding.mend.clone(),
            })
            .collect(),
    }
}

fn profile(configuration: &Configuration) -> Profile {
    let config = configuration.config.as_ref();
    Profile {
        config_map: configuration.config_map.clone(),
        key: configuration.key.clone(),
        sharing: config.map(|config| config.sharing().label()),
        fails_requests_greater_than_one: config
            .filter(|config| config.in_force().is_some())
            .map(PluginConfig::fails_requests_greater_than_one),
        advertised: config.map(advertised).unwrap_or_default(),
    }
}

fn advertised(config: &PluginConfig) -> Vec<Advertised> {
    let shared = config.in_force().map(|shared| &shared.resources);
    let mut found: Vec<Advertised> = Vec::new();
    for resource in shared.into_iter().flatten() {
        if found.iter().all(|known| known.resource != resource.name) {
            found.push(Advertised {
                resource: resource.name.clone(),
                name: config.advertised_name(&resource.name).into_owned(),
                replicas: config.replicas_of(&resource.name),
            });
        }
    }
    found
}
