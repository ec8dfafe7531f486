//! The program itself: started with a web configuration, and asked by `slicewatch snapshot`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::{Site, TLS, ask, hash};
use crate::agent::{BINARY, output};

/// A demo as a process.
struct Demo {
    child: Child,
    url: String,
    /// Where its log goes.
    log: std::path::PathBuf,
}

fn slicewatch(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().args(args);
    command
}

impl Demo {
    fn start(site: &Site, yaml: &str) -> Self {
        let config = site.config(yaml);
        let log = site.path("log");
        let mut child = slicewatch(&["demo", "--listen", "127.0.0.1:0"])
            .env("SLICEWATCH_WEB_CONFIG_FILE", config)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.split_whitespace().find(|word| word.contains("://"));
        let url = url.unwrap().trim_end_matches('/').to_owned();
        Self { child, url, log }
    }

    fn snapshot(&self, args: &[&str]) -> Output {
        self.snapshot_of(&self.url, args)
    }

    fn snapshot_of(&self, url: &str, args: &[&str]) -> Output {
        let mut command = slicewatch(&["snapshot", "--format", "json", "--url", url]);
        output(command.args(args))
    }

    fn with_user(&self, user: &str) -> String {
        self.url.replace("://", &format!("://{user}@"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says when it fails, in one line and without the password.
fn refusal(ended: &Output) -> String {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let line = String::from_utf8(ended.stderr.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(!line.contains("horse"), "{line}");
    line
}

#[test]
fn a_snapshot_comes_over_tls_with_password_and_client_certificate() {
    let site = Site::new();
    site.authority
        .client("somebody")
        .write(site.folder.path(), "client");
    fs::write(site.path("password"), "correct @horse\n").unwrap();
    fs::write(site.path("wrong"), "battery").unwrap();
    let demo = Demo::start(
        &site,
        &format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\nbasic_auth_users:\n  alice: {}\n",
            hash("correct @horse")
        ),
    );
    assert!(demo.url.starts_with("https://"), "{}", demo.url);
    let path = |name: &str| site.path(name).display().to_string();
    let (ca, cert, key) = (path("ca.crt"), path("client.crt"), path("client.key"));
    let (password, wrong) = (path("password"), path("wrong"));
    let trust = ["--ca-file", &ca];
    let shown = ["--cert-file", &cert, "--key-file", &key];
    let login = ["--user", "alice", "--password-file", &password];

    let all = [&trust[..], &shown, &login].concat();
    let found = demo.snapshot(&all);
    assert!(found.status.success(), "{found:?}");
    let json: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert!(json.get("gpus").is_some());
    let unchecked = [&["--insecure-skip-verify"][..], &shown, &login].concat();
    assert!(demo.snapshot(&unchecked).status.success());
    let named = demo.with_user("alice:correct%20%40horse");
    let found = demo.snapshot_of(&named, &[&trust[..], &shown].concat());
    assert!(found.status.success(), "{found:?}");

    let lines = [
        refusal(&demo.snapshot(&[&shown[..], &login].concat())),
        refusal(&demo.snapshot(&[&trust[..], &login].concat())),
    ];
    for line in lines {
        assert!(
            line.contains("did not answer") && line.contains(&demo.url),
            "{line}"
        );
    }
    let none = refusal(&demo.snapshot(&[&trust[..], &shown].concat()));
    let other = ["--user", "alice", "--password-file", &wrong];
    let bad = refusal(&demo.snapshot(&[&trust[..], &shown, &other].concat()));
    let url = demo.with_user("alice:horse");
    let bad_url = refusal(&demo.snapshot_of(&url, &[&trust[..], &shown].concat()));
    for line in [none, bad, bad_url] {
        assert!(
            line.contains("--password-file") && line.contains(&demo.url),
            "{line}"
        );
    }
    for (flag, file, words) in [
        ("--ca-file", path("gone"), "cannot read --ca-file"),
        ("--ca-file", password.clone(), "no certificate"),
    ] {
        let line = refusal(&demo.snapshot(&[flag, &file]));
        assert!(line.contains(words) && line.contains(&file), "{line}");
    }
    let swapped = ["--cert-file", &cert, "--key-file", &cert];
    let line = refusal(&demo.snapshot(&[&trust[..], &swapped, &login].concat()));
    assert!(line.contains("no private key"), "{line}");
}

#[test]
fn it_does_not_start_with_a_configuration_that_cannot_be_used() {
    let site = Site::new();
    for (yaml, words) in [
        (format!("{TLS}  cert_fil: x\n"), &["line 4", "cert_fil"][..]),
        (
            TLS.replace("server.crt", "gone.crt"),
            &["line 2", "gone.crt"],
        ),
        (
            "basic_auth_users:\n  alice: horse\n".to_owned(),
            &["line 2", "htpasswd -nBC 10 alice"],
        ),
    ] {
        let config = site.config(&yaml).display().to_string();
        for command in ["agent", "demo"] {
            let args = [
                command,
                "--listen",
                "127.0.0.1:0",
                "--web.config.file",
                &config,
            ];
            let line = refusal(&output(&mut slicewatch(&args)));
            for word in words.iter().copied().chain([config.as_str()]) {
                assert!(line.contains(word), "no {word:?} in {line}");
            }
        }
    }
}

#[test]
fn a_bad_change_is_told_once_in_one_line() {
    let site = Site::new();
    let demo = Demo::start(
        &site,
        &format!("basic_auth_users:\n  alice: {}\n", hash("x")),
    );
    let addr: SocketAddr = demo.url.trim_start_matches("http://").parse().unwrap();
    let knock = || {
        ask(
            std::net::TcpStream::connect(addr).unwrap(),
            "/-/healthy",
            "",
        )
        .unwrap()
    };
    let told = || {
        let mut log = String::new();
        fs::File::open(&demo.log)
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        let words = |line: &&str| line.contains("web configuration");
        log.lines()
            .filter(words)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    site.config("basic_auth_users:\n  alice: horse\n");
    for _ in 0..4 {
        sleep(Duration::from_millis(1_100));
        assert_eq!(knock().status, 200);
    }
    let lines = told();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for word in ["WARN", "line 2", "htpasswd", "stays"] {
        assert!(lines[0].contains(word), "no {word:?} in {lines:?}");
    }
    assert!(!lines[0].contains("horse"), "{lines:?}");

    site.config(&format!("basic_auth_users:\n  bob: {}\n", hash("x")));
    sleep(Duration::from_millis(1_100));
    knock();
    let lines = told();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].contains("in use"), "{lines:?}");
}
