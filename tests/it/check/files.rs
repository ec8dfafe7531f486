//! `check --config-file`: what the linter finds is told with its place, and what is no file of a
//! configuration is refused with the mend.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Said, check, command};

const BAD: &str = "\
version: v1
sharing:
  timeSlicing:
    resources:
      - name: nvidia.com/gpu
        replicas: 1
";
const WARNING: &str = "\
version: v1
flags:
  renameByDefault: true
";

fn fixture(name: &str) -> String {
    format!(
        "{}/tests/fixtures/plugin-config/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn written(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn fed(arguments: &[&str], input: &[u8]) -> Said {
    let mut child: Child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn the_configmaps_of_the_usual_recipe_are_clean_and_their_profiles_are_shown() {
    let any = fixture("time-slicing-config.yaml");
    let fine = fixture("time-slicing-config-fine.yaml");
    let said = check(&["--config-file", &any, "--config-file", &fine]);
    assert_eq!(said.status, Some(0), "{}", said.out);
    let rows: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for wanted in [
        "gpu-operator/time-slicing-config any time-slicing nvidia.com/gpu 4 nvidia.com/gpu yes",
        "gpu-operator/time-slicing-config-fine a100-40gb time-slicing nvidia.com/gpu 8 nvidia.com/gpu yes",
        "gpu-operator/time-slicing-config-fine tesla-t4 time-slicing nvidia.com/gpu 4 nvidia.com/gpu yes",
        "nothing found",
    ] {
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        assert!(rows.contains(&wanted), "no {wanted:?} in {}", said.out);
    }
    let said = check(&["--config-file", &any, "--output", "json"]);
    let json = said.json();
    assert_eq!(json["verdict"], "clean");
    assert_eq!(
        json["files"][0]["profiles"][0]["advertised"][0]["replicas"],
        4
    );
}

#[test]
fn an_error_is_told_with_file_line_column_code_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "bad.yaml", BAD);
    let said = check(&["--config-file", &path]);
    assert_eq!(said.status, Some(1), "{}", said.out);
    assert!(
        said.out
            .contains(&format!("{path}:6:19: error too_few_replicas: ")),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("\n    mend: write 2 or more"),
        "{}",
        said.out
    );
    assert!(said.out.ends_with("1 error, 1 info\n"), "{}", said.out);
    assert!(said.error.is_empty(), "{}", said.error);

    let said = check(&["--config-file", &path, "--output", "json"]);
    assert_eq!(said.status, Some(1));
    let json = said.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["verdict"], "errors");
    assert_eq!(json["errors"], 1);
    let found = &json["files"][0]["findings"];
    let error = found
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["severity"] == "error")
        .unwrap();
    assert_eq!(error["code"], "too_few_replicas");
    assert_eq!((&error["line"], &error["column"]), (&6.into(), &19.into()));
    assert_eq!(error["path"], "sharing.timeSlicing.resources[0].replicas");
    assert_eq!(json["files"][0]["profiles"][0]["sharing"], Value::Null);
}

#[test]
fn warnings_alone_do_not_fail_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "warning.yaml", WARNING);
    let said = check(&["--config-file", &path, "--output", "json"]);
    assert_eq!(said.status, Some(0), "{}", said.out);
    assert_eq!(said.json()["verdict"], "warnings");
    assert_eq!(
        said.json()["files"][0]["findings"][0]["code"],
        "misplaced_key"
    );
}

#[test]
fn standard_input_is_read_once() {
    let said = fed(&["--config-file", "-"], BAD.as_bytes());
    assert_eq!(said.status, Some(1), "{}", said.out);
    assert!(
        said.out.contains("standard input:6:19: error"),
        "{}",
        said.out
    );
    let said = fed(&["--config-file", "-", "--config-file", "-"], b"");
    assert_eq!(said.status, Some(2));
    assert!(said.error.contains("twice"), "{}", said.error);
    assert!(said.out.is_empty());
}

#[test]
fn what_cannot_be_read_is_named_with_the_mend_and_keeps_no_other_file_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let bad = written(&folder, "bad.yaml", BAD);
    let missing = folder.path().join("missing.yaml");
    let dir = folder.path().join("folder");
    fs::create_dir(&dir).unwrap();
    let binary = written(&folder, "binary.yaml", b"version: v1\n# \xff\xfe\n");
    let large = written(&folder, "large.yaml", " ".repeat((1 << 20) + 1));
    for (path, words) in [
        (
            missing.to_str().unwrap(),
            &["No such file", "--config-file"][..],
        ),
        (dir.to_str().unwrap(), &["directory", "--config-file"]),
        (&binary, &["UTF-8 from byte 14"]),
        (&large, &["larger than 1048576 bytes", "right file"]),
        // Never read to its end.
        ("/dev/zero", &["larger than 1048576 bytes"]),
    ] {
        let said = check(&["--config-file", path, "--config-file", &bad]);
        assert_eq!(said.status, Some(2), "{path}: {}", said.out);
        let line = format!("not checked: {path}: ");
        let told = said.out.lines().find(|it| it.starts_with(&line));
        let told = told.unwrap_or_else(|| panic!("no {line} in {}", said.out));
        for word in words {
            assert!(told.contains(word), "no {word:?} in {told}");
        }
        assert!(said.out.contains("too_few_replicas"), "{}", said.out);
        let said = check(&["--config-file", path, "--output", "json"]);
        assert_eq!(said.status, Some(2), "{path}");
        assert_eq!(said.json()["verdict"], "incomplete");
        assert_eq!(said.json()["not_checked"][0]["what"], path);
    }
}

/// Input that is meant to break readers gives findings, and no more than that.
#[test]
fn bad_input_gives_findings() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let before = format!("*a{}, ", i - 1).repeat(9);
            text += &format!("a{i}: &a{i} [{}]\n", before.trim_end_matches(", "));
        }
        text
    };
    let configmap =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  any: |\n    version: v1\n";
    for (name, text, status, code) in [
        ("not-yaml", "version: [v1".to_owned(), 1, "not_yaml"),
        ("html", "<html>\n<a href=x: y>\n: :\n".to_owned(), 1, ""),
        ("bomb", bomb, 1, "yaml_bomb"),
        (
            "tabs",
            "version: v1\nsharing:\n\ttimeSlicing:\n".to_owned(),
            1,
            "tab_in_indentation",
        ),
        ("windows", BAD.replace('\n', "\r\n"), 1, "too_few_replicas"),
        (
            "documents",
            format!("version: v1\n---\n{BAD}"),
            0,
            "documents_ignored",
        ),
        (
            "manifests",
            format!("{configmap}---\nkind: Service\n---\n{configmap}"),
            0,
            "document_skipped",
        ),
        ("empty", String::new(), 0, "empty_configuration"),
        (
            "empty-key",
            "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {any: \"\"}\n".to_owned(),
            0,
            "empty_configuration",
        ),
        (
            "limit",
            format!("version: v1\n#{}\n", "x".repeat((1 << 20) - 14)),
            0,
            "",
        ),
        ("deep", "[".repeat(100_000), 1, ""),
    ] {
        let path = written(&folder, name, text);
        let said = check(&["--config-file", &path, "--output", "json"]);
        assert_eq!(said.status, Some(status), "{name}: {}", said.out);
        assert!(said.out.contains(code), "{name}: no {code} in {}", said.out);
    }
}

/// A file's own words are shown, and cannot steer the terminal.
#[test]
fn names_cannot_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "a\u{1b}[2Jb.yaml", "version: v1\n\"\\e[2J\": 1\n");
    let said = check(&["--config-file", &path]);
    assert!(!said.out.contains('\u{1b}'), "{:?}", said.out);
}

#[test]
fn a_file_is_checked_without_a_cluster() {
    let any = fixture("time-slicing-config.yaml");
    for flags in [
        &["--node", "a"][..],
        &["--all-nodes"],
        &["--namespace", "a"],
        &["--kubeconfig", "a"],
        &["--context", "a"],
        &["--timeout", "3s"],
    ] {
        let said = check(&[&["--config-file", any.as_str()], flags].concat());
        assert_eq!(said.status, Some(2), "{flags:?}");
        assert!(said.error.contains("cannot be used with"), "{}", said.error);
    }
    assert!(Path::new(&any).exists());
}

#[test]
fn a_reader_that_stops_does_not_change_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "bad.yaml", BAD);
    let mut child = command(&["--config-file", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.is_empty());
}
