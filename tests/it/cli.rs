//! What the command line says to wrong input: one line that names it and the mend.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use slicewatch::model::Snapshot;

use crate::agent::{BINARY, output};

fn slicewatch(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().args(args);
    command
}

fn error_of(ended: &Output) -> String {
    let error = String::from_utf8(ended.stderr.clone()).unwrap();
    assert!(!ended.status.success(), "no error");
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// The program's own errors are one line and status 1.
fn fails(command: &mut Command, words: &[&str]) {
    let ended = output(command);
    let error = error_of(&ended);
    assert_eq!(ended.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(ended.stdout.is_empty());
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// The errors of flags and environment are clap's: the line, a hint and a pointer to the help.
fn is_refused(command: &mut Command, words: &[&str]) {
    let ended = output(command);
    let error = error_of(&ended);
    assert_eq!(ended.status.code(), Some(2), "{error}");
    let first = error.lines().next().unwrap();
    assert!(first.starts_with("error: "), "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn a_wrong_configuration_file_is_named_with_key_line_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    let path = file.to_str().unwrap();
    for (toml, words) in [
        (
            "listen = \"127.0.0.1:0\"\n\nlisten-on = \"x\"\n",
            &["line 3", "listen-on", "expected one of", "drain-period"][..],
        ),
        ("drain-period = \"3\"", &["line 1", "time unit", "3s"]),
        ("\ndrain-period = \"3 parsecs\"", &["line 2", "parsecs"]),
        ("drain-period = \"-3s\"", &["line 1", "-3s", "positive"]),
        ("memory-period = \"0s\"", &["line 1", "zero", "100ms"]),
        ("drain-period = 3", &["line 1", "string"]),
        ("listen = \"9735\"", &["line 1", "listen", "address"]),
        ("listen = ", &["line 1"]),
    ] {
        fs::write(&file, toml).unwrap();
        let mut all = vec![path];
        all.extend(words);
        fails(&mut slicewatch(&["agent", "--config", path]), &all);
    }
    for (toml, words) in [
        (
            "drain-period = \"20s\"",
            ["drain-period", "20s", "1s to 8s"],
        ),
        (
            "pressure-floor-ratio = 5.0",
            ["pressure-floor-ratio", "5", "0.05"],
        ),
        ("proc-root = \"proc\"", ["proc-root", "proc", "absolute"]),
    ] {
        fs::write(&file, toml).unwrap();
        fails(&mut slicewatch(&["agent", "--config", path]), &words);
        fails(&mut slicewatch(&["snapshot", "--config", path]), &words);
    }
    let missing = folder.path().join("no\nsuch.toml");
    let missing = missing.to_str().unwrap();
    fails(
        &mut slicewatch(&["agent", "--config", missing]),
        &["such.toml", "--config", "readable"],
    );
    fs::write(&file, [0xff, 0xfe]).unwrap();
    fails(
        &mut slicewatch(&["agent", "--config", path]),
        &[path, "UTF-8"],
    );
}

#[test]
fn wrong_flags_and_environment_are_named_with_the_mend() {
    for (args, words) in [
        (
            &["agent", "--drain-period", "3"][..],
            &["--drain-period", "unit"][..],
        ),
        (
            &["agent", "--drain-period=-3s"],
            &["--drain-period", "-3s", "positive"],
        ),
        (
            &["agent", "--memory-period", "0ms"],
            &["--memory-period", "zero"],
        ),
        (
            &["agent", "--listen", "9735"],
            &["--listen", "9735", "address"],
        ),
        (&["agent", "--listen-on", "x"], &["--listen-on"]),
        (&["demo", "--speed", "0"], &["--speed", "0.01 to 1000"]),
        (&["demo", "--speed", "fast"], &["--speed", "such as 10"]),
        (&["demo", "--seed", "-1"], &["-1"]),
        (&["demo", "--duration", "5"], &["--duration", "unit"]),
        (&["snapshot", "--seed", "1"], &["--scenario"]),
        (
            &["snapshot", "--url", "http://x", "--scenario", "quiet"],
            &["--url", "--scenario"],
        ),
        (&["watch"], &["watch"]),
    ] {
        is_refused(&mut slicewatch(args), words);
    }
    is_refused(
        slicewatch(&["agent"]).env("SLICEWATCH_DRAIN_PERIOD", "soon"),
        &["soon", "--drain-period"],
    );
    for command in ["demo", "snapshot"] {
        fails(
            &mut slicewatch(&[command, "--scenario", "no\u{1F4A3}isy"]),
            &[
                "no\u{1F4A3}isy",
                "quiet",
                "noisy-neighbour",
                "many-pods",
                "faults",
            ],
        );
    }
    fails(
        &mut slicewatch(&["--log", "loud=very", "demo"]),
        &["--log", "loud", "info"],
    );
    fails(
        &mut slicewatch(&["agent", "--listen", "203.0.113.77:1"]),
        &["203.0.113.77:1", "address"],
    );
}

#[test]
fn scenarios_are_listed() {
    let ended = output(&mut slicewatch(&["demo", "--list-scenarios"]));
    assert!(ended.status.success());
    let list = String::from_utf8(ended.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let wanted = [
        "quiet",
        "now-and-then",
        "noisy-neighbour",
        "memory-hog",
        "churn",
        "many-pods",
        "mig",
        "mps",
        "faults",
    ];
    for name in wanted {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(
        list.lines().all(|line| line.len() > 30),
        "each with what it shows:\n{list}"
    );
}

/// Answers each connection with this body as 200, until the test ends.
pub(crate) fn serve(body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn a_url_of_no_agent_of_this_version_is_named_with_the_mend() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let of = |url: &str| slicewatch(&["snapshot", "--url", url]);
    fails(&mut of(&closed), &[&closed, "--url", "running agent"]);
    fails(
        &mut of("not a url"),
        &["not a url", "http://127.0.0.1:9735"],
    );
    fails(
        &mut of("ftp://127.0.0.1/"),
        &["ftp://127.0.0.1", "http://127.0.0.1:9735"],
    );
    for (body, words) in [
        (
            "<html>Welcome to nginx!</html>",
            ["not a slicewatch agent", "/api/v1/snapshot"],
        ),
        ("", ["not a slicewatch agent", "no JSON"]),
        (
            "{\"status\":\"ok\"}",
            ["not a slicewatch agent", "no schema"],
        ),
        (
            "{\"schema\":999}",
            ["schema 999", "the agent's own version"],
        ),
        (
            "{\"schema\":1,\"gpus\":3}",
            ["not understood", "/api/v1/snapshot"],
        ),
    ] {
        let url = format!("http://{}", serve(body.to_owned()));
        let mut all = vec![url.as_str()];
        all.extend(words);
        fails(&mut of(&url), &all);
    }
}

#[test]
fn a_scenario_is_read_as_table_and_as_json() {
    let args = [
        "snapshot",
        "--scenario",
        "noisy-neighbour",
        "--duration",
        "6s",
    ];
    let table = output(&mut slicewatch(&args));
    assert!(table.status.success());
    assert!(String::from_utf8(table.stdout).unwrap().contains("GPU"));
    let json = output(slicewatch(&args).args(["--format", "json"]));
    let snapshot: Snapshot = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(snapshot.schema, slicewatch::model::snapshot::SCHEMA);
    assert!(!snapshot.gpus.is_empty());
    fails(
        slicewatch(&args[..3]).args(["--duration", "50ms"]),
        &["--duration", "50ms", "2s"],
    );
}

/// Each of the three listens where it is told unless one that wins says otherwise: the error names
/// the address that was taken.
#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = "203.0.113.77:1";
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    let path = file.to_str().unwrap();
    let agent = |in_file: &str, in_environment: Option<&str>, flag: Option<&str>| {
        fs::write(&file, format!("listen = \"{in_file}\"")).unwrap();
        let mut command = slicewatch(&["agent"]);
        command.env("SLICEWATCH_CONFIG", path);
        if let Some(address) = in_environment {
            command.env("SLICEWATCH_LISTEN", address);
        }
        if let Some(address) = flag {
            command.args(["--listen", address]);
        }
        command
    };
    fails(&mut agent(&taken, None, None), &[&taken]);
    fails(&mut agent(free, Some(&taken), None), &[&taken]);
    fails(&mut agent(free, Some(free), Some(&taken)), &[&taken]);
}
