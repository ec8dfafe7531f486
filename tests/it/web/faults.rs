//! Files that cannot be used: each refused with its line, what is wrong there, and the mend.

use std::fs;

use anyhow::Error;
use slicewatch::publish::http::WebConfig;

use super::{Authority, Site, TLS, hash};

/// The whole line that the operator sees.
fn refusal(site: &Site, yaml: &str) -> String {
    let error = site.open(yaml).expect_err(yaml);
    format!("{:#}", Error::from(error))
}

#[test]
fn every_wrong_line_is_named_with_its_mend() {
    let site = Site::new();
    Authority::new().server().write(site.folder.path(), "other");
    fs::write(site.path("text"), "no PEM").unwrap();
    fs::create_dir(site.path("folder")).unwrap();
    let tls = |more: &str| format!("{TLS}  {more}\n");
    let user = |hash: &str| format!("# people\nbasic_auth_users:\n  alice: {hash}\n");
    for (yaml, words) in [
        // The form.
        (String::new(), &["line 1", "empty"][..]),
        ("# nothing".to_owned(), &["line 1", "empty"]),
        ("tls_server_config: [".to_owned(), &["line 1"]),
        ("\tx: 1".to_owned(), &["line 1"]),
        ("just words".to_owned(), &["line 1", "expected"]),
        (
            format!("{TLS}basic_auth_user:\n  a: b\n"),
            &["line 4", "basic_auth_user`", "basic_auth_users"],
        ),
        (
            tls("client_ca_path: ca.crt"),
            &["line 4", "client_ca_path", "client_ca_file"],
        ),
        (
            format!("{TLS}{TLS}"),
            &["line 4", "duplicate", "tls_server_config"],
        ),
        (tls("prefer_server_cipher_suites: maybe"), &["line 4"]),
        (format!("{TLS}---\na: 1\n"), &["document"]),
        // Certificates.
        (
            "tls_server_config:\n".to_owned(),
            &["line 1", "empty", "cert_file"],
        ),
        (
            "tls_server_config: {}".to_owned(),
            &["line 1", "no cert_file"],
        ),
        (
            "tls_server_config:\n  cert_file: server.crt".to_owned(),
            &["no key_file"],
        ),
        (
            TLS.replace("server.crt", "gone.crt"),
            &[
                "line 2",
                "cert_file",
                "gone.crt",
                "No such file",
                "mount it",
            ],
        ),
        (
            TLS.replace("server.crt", "folder"),
            &["line 2", "folder", "not a file"],
        ),
        (
            TLS.replace("server.crt", "text"),
            &["line 2", "cert_file", "text", "no certificate"],
        ),
        (
            TLS.replace("server.key", "server.crt"),
            &["line 3", "key_file", "no private key"],
        ),
        (
            TLS.replace("server.key", "other.key"),
            &["line 3", "server.crt", "other.key", "do not go together"],
        ),
        (tls("cert: x"), &["line 2", "both cert and cert_file"]),
        (tls("client_ca_file: text"), &["line 4", "no certificate"]),
        // Clients.
        (
            tls("client_auth_type: Always"),
            &["line 4", "Always", "RequireAndVerifyClientCert"],
        ),
        (
            tls("client_auth_type: RequireAndVerifyClientCert"),
            &["line 4", "no client_ca_file"],
        ),
        (
            tls("client_ca_file: ca.crt"),
            &["no client_auth_type", "RequireAndVerifyClientCert"],
        ),
        (
            tls("client_auth_type: RequestClientCert\n  client_allowed_sans: [a]"),
            &["line 5", "client_allowed_sans needs"],
        ),
        (
            tls("client_auth_type: RequireAnyClientCert\n  client_allowed_sans: []"),
            &["line 5", "empty"],
        ),
        (
            tls("client_auth_type: RequireAnyClientCert\n  client_allowed_sans:\n  - a@b.c"),
            &["line 6", "a@b.c", "e-mail"],
        ),
        // What rustls has not.
        (
            tls("min_version: TLS10"),
            &["line 4", "TLS10", "too old", "TLS12"],
        ),
        (
            tls("max_version: TLS11"),
            &["line 4", "max_version", "too old"],
        ),
        (tls("min_version: SSL3"), &["line 4", "does not exist"]),
        (
            tls("min_version: TLS13\n  max_version: TLS12"),
            &["line 4", "above max_version"],
        ),
        (
            tls("cipher_suites:\n  - TLS_RSA_WITH_AES_128_CBC_SHA"),
            &[
                "line 5",
                "TLS_RSA_WITH_AES_128_CBC_SHA",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            ],
        ),
        (
            tls("max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]"),
            &["no usable cipher suites"],
        ),
        (
            tls("curve_preferences: [CurveP521]"),
            &["line 4", "CurveP521", "CurveP256"],
        ),
        // Users.
        ("basic_auth_users:\n".to_owned(), &["line 1", "empty"]),
        ("basic_auth_users: {}".to_owned(), &["line 1", "empty"]),
        (
            user("hunter2"),
            &[
                "line 3",
                "alice",
                "no bcrypt hash",
                "htpasswd -nBC 10 alice",
            ],
        ),
        (user("12345"), &["line 3", "alice", "htpasswd"]),
        (user("\"\""), &["line 3", "no bcrypt hash"]),
        (
            user(&hash("x").replacen("$04$", "$14$", 1)),
            &["line 3", "cost", "14", "htpasswd -nBC 10"],
        ),
        (
            format!("basic_auth_users:\n  \"a:b\": {}", hash("x")),
            &["line 2", "colon"],
        ),
        // The rest.
        (
            "http_server_config:\n  headers:\n    X-Powered-By: us".to_owned(),
            &["line 3", "X-Powered-By", "X-Frame-Options"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow".to_owned(),
            &["line 3", "deny or sameorigin"],
        ),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"".to_owned(),
            &["line 3", "character"],
        ),
        (
            "http_server_config:\n  http3: true".to_owned(),
            &["line 2", "http3"],
        ),
        ("rate_limit:\n  burst: 3".to_owned(), &["no interval"]),
        (
            "rate_limit:\n  interval: 3\n  burst: 3".to_owned(),
            &["line 2", "interval", "1s"],
        ),
        (
            "rate_limit:\n  interval: 1s\n  burst: 0".to_owned(),
            &["line 3", "burst"],
        ),
        ("rate_limit:\n  interval: 1s".to_owned(), &["burst: 1"]),
        (
            "rate_limit:\n  interval: 1s\n  burst: -1".to_owned(),
            &["line 3"],
        ),
    ] {
        let error = refusal(&site, &yaml);
        assert_eq!(error.lines().count(), 1, "{error}");
        let path = site.path("web.yaml").display().to_string();
        for word in words.iter().copied().chain([path.as_str()]) {
            assert!(error.contains(word), "no {word:?} in: {error}\n{yaml}");
        }
    }
}

#[test]
fn no_error_repeats_a_password() {
    let site = Site::new();
    for yaml in [
        "basic_auth_users: hunter2",
        "basic_auth_users:\n- hunter2",
        "basic_auth_users:\n  alice: hunter2",
        "basic_auth_users:\n  alice: [hunter2]",
        "basic_auth_users:\n  alice: {hunter2: hunter2}",
        "basic_auth_users:\n  alice: \"hunter2",
        "basic_auth_users:\n  alice: !!int hunter2",
        "basic_auth_users:\n  alice: !!binary hunter2",
        "basic_auth_users:\n  alice: *hunter2",
        "tls_server_config: hunter2",
        "tls_server_config:\n  key: hunter2\n  cert: x",
        "tls_server_config:\n  key: [hunter2]",
        "tls_server_config:\n  prefer_server_cipher_suites: hunter2",
        "http_server_config: hunter2",
    ] {
        let error = refusal(&site, yaml);
        assert!(!error.contains("hunter2"), "{error}\n{yaml}");
    }
}

#[test]
fn a_file_that_is_none_is_named() {
    let site = Site::new();
    let error = |name: &str| {
        let error = WebConfig::open(&site.path(name)).unwrap_err();
        format!("{:#}", Error::from(error))
    };
    fs::write(site.path("latin1"), b"# caf\xe9").unwrap();
    fs::write(site.path("long"), "#".repeat((1 << 20) + 1)).unwrap();
    for (name, words) in [
        ("gone", "No such file"),
        (".", "not a file"),
        ("latin1", "UTF-8"),
        ("long", "1 MiB"),
    ] {
        let error = error(name);
        assert!(
            error.contains("--web.config.file") && error.contains(words),
            "{error}"
        );
    }
    assert!(error("gone").contains(site.path("gone").to_str().unwrap()));
}

#[test]
fn aliases_and_depth_are_bounded() {
    let site = Site::new();
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f"])
    {
        bomb += &format!(
            "{name}: &{name} [{}]\n",
            vec![format!("*{before}"); 9].join(",")
        );
    }
    let deep = format!("basic_auth_users: {}{}", "[".repeat(5000), "]".repeat(5000));
    for yaml in [bomb, deep] {
        assert!(refusal(&site, &yaml).contains("is not valid"));
    }
}

#[test]
fn what_the_toolkit_takes_is_taken() {
    let site = Site::new();
    let inline = format!(
        "tls_server_config:\n  cert: |\n{}\n  key: |\n{}\n",
        indented(&fs::read_to_string(site.path("server.crt")).unwrap()),
        indented(&fs::read_to_string(site.path("server.key")).unwrap()),
    );
    for yaml in [
        inline,
        TLS.to_owned(),
        format!("{TLS}  client_auth_type: NoClientCert\nhttp_server_config:\n  http2: false\n"),
        format!("{TLS}  client_auth_type: RequireClientCert\n"),
        format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [prometheus, 10.0.0.1, \"spiffe://a/b\"]\n"
        ),
        format!(
            "{TLS}  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: false\n  curve_preferences: [X25519, CurveP384]\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]\n"
        ),
        "rate_limit:\n  interval: 0\n  burst: 0\n".to_owned(),
        "http_server_config:\n  headers:\n    Content-Security-Policy: \"\"\n".to_owned(),
        format!(
            "basic_auth_users:\n  alice: {}\n",
            hash("x").replacen("$2b$", "$2y$", 1)
        ),
    ] {
        if let Err(error) = site.open(&yaml) {
            panic!("{error}\n{yaml}");
        }
    }
}

#[test]
fn the_example_is_accepted() {
    let site = Site::new();
    site.authority.server().write(site.folder.path(), "tls");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = fs::read_to_string(root.join("deploy/web-config.example.yaml")).unwrap();
    assert!(site.open(&example).unwrap().tls());
    // So is what is commented out in it.
    let all = example
        .replace("# client_allowed", "client_allowed")
        .replace("# rate_limit:", "rate_limit:")
        .replace("#   ", "  ");
    assert_eq!(
        all.matches("rate_limit").count() + all.matches("client_allowed").count(),
        2
    );
    assert!(!all.contains("# client_allowed") && !all.contains("# rate"));
    site.open(&all).unwrap();
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}
