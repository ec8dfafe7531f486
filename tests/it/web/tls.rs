//! TLS as clients see it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rcgen::SanType;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::{Authority, Client, Site, TLS, answer, ask};

#[test]
fn both_versions_are_served_and_the_asked_bounds_hold() {
    let site = Site::new();
    let (old, new) = (
        site.client().speaking(&[&TLS12]),
        site.client().speaking(&[&TLS13]),
    );
    for (bounds, served) in [
        ("", [true, true]),
        ("  min_version: TLS13\n", [false, true]),
        ("  max_version: TLS12\n", [true, false]),
    ] {
        let server = site.serve(&format!("{TLS}{bounds}"));
        let found = [&old, &new].map(|client| client.status(&server) == Some(200));
        assert_eq!(found, served, "{bounds}");
    }
}

#[test]
fn a_stranger_trusts_it_not_and_http2_is_not_offered() {
    let site = Site::new();
    let server = site.serve(TLS);
    assert_eq!(Client::trusting(&Authority::new()).status(&server), None);

    let mut client = site.client();
    client.protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut stream = client.connect(&server);
    assert_eq!(ask(&mut stream, "/", "").unwrap().status, 200);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn ciphers_and_curves_are_those_asked_for() {
    let site = Site::new();
    let server = site.serve(&format!(
        "{TLS}  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP384]\n"
    ));
    let mut stream = site.client().speaking(&[&TLS12]).connect(&server);
    ask(&mut stream, "/", "").unwrap();
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(
        suite,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    );

    let mut stream = site.client().connect(&server);
    ask(&mut stream, "/", "").unwrap();
    assert_eq!(
        stream.conn.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    let group = stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::secp384r1);
}

/// None, one signed by the server's authority, one signed by another.
fn statuses(site: &Site, yaml: &str) -> [bool; 3] {
    let server = site.serve(yaml);
    let stranger = Authority::new().client("prometheus");
    [
        site.client(),
        site.client().with(site.authority.client("prometheus")),
        site.client().with(stranger),
    ]
    .map(|client| client.status(&server) == Some(200))
}

#[test]
fn clients_show_the_certificates_that_are_asked_of_them() {
    let site = Site::new();
    for (mode, ca, served) in [
        ("NoClientCert", false, [true, true, true]),
        ("RequestClientCert", false, [true, true, true]),
        ("RequireAnyClientCert", false, [false, true, true]),
        ("RequireAnyClientCert", true, [false, true, true]),
        ("VerifyClientCertIfGiven", true, [true, true, false]),
        ("RequireAndVerifyClientCert", true, [false, true, false]),
    ] {
        let ca = if ca { "  client_ca_file: ca.crt\n" } else { "" };
        let yaml = format!("{TLS}  client_auth_type: {mode}\n{ca}");
        assert_eq!(statuses(&site, &yaml), served, "{yaml}");
    }
}

#[test]
fn only_clients_of_the_allowed_names_come_in() {
    let site = Site::new();
    let server = site.serve(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [prometheus, 10.1.2.3, \"spiffe://cluster/scraper\"]\n"
    ));
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    for (sans, served) in [
        (vec![dns("prometheus")], true),
        (vec![dns("other"), dns("prometheus")], true),
        (vec![SanType::IpAddress([10, 1, 2, 3].into())], true),
        (vec![uri("spiffe://cluster/scraper")], true),
        (vec![dns("other")], false),
        (vec![dns("prometheus.example.com")], false),
        (vec![SanType::IpAddress([10, 1, 2, 4].into())], false),
        (vec![uri("spiffe://cluster/other")], false),
        (vec![], false),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = site.client().speaking(&[version]);
            let client = client.with(site.authority.sign(&sans));
            assert_eq!(client.status(&server) == Some(200), served, "{sans:?}");
        }
    }
}

#[test]
fn plain_http_is_told_that_this_is_https() {
    let site = Site::new();
    let server = site.serve(TLS);
    let found = server.get("/metrics", "");
    assert_eq!(found.status, 400);
    assert_eq!(
        found.body,
        "Client sent an HTTP request to an HTTPS server.\n"
    );
    // Neither this nor noise ends it.
    let mut noise = server.connect();
    noise.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]).unwrap();
    drop(noise);
    assert_eq!(site.client().status(&server), Some(200));
}

#[test]
fn a_silent_client_loses_its_place_and_a_long_head_is_refused() {
    let site = Site::new();
    let server = site.serve(TLS);
    let began = Instant::now();
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    assert_eq!(site.client().get(&server, "/", &long).unwrap().status, 431);
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let took = began.elapsed();
        assert!(
            took > Duration::from_secs(4) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
}

#[test]
fn silent_crowds_are_bounded_and_end() {
    let site = Site::new();
    let server = site.serve(TLS);
    let crowd: Vec<_> = (0..64).map(|_| server.connect()).collect();
    std::thread::sleep(Duration::from_millis(200));
    let full = answer(server.connect()).unwrap();
    assert_eq!(full.status, 503);
    // The crowd stays, and its places are free again.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(site.client().status(&server), Some(200));
    drop(crowd);
}

#[test]
fn a_body_is_not_read() {
    let site = Site::new();
    let server = site.serve("rate_limit: {interval: 0, burst: 1}\n");
    let length = "Content-Length: 100000000000\r\nExpect: 100-continue\r\n";
    let found = server.get("/", length);
    assert_eq!(found.status, 200, "{found:?}");
    assert!(!found.head.contains("100 Continue"), "{found:?}");
}
