//! The file and those that it names are followed as they change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Authority, Client, PATIENCE, Server, Site, TLS, basic, hash};

/// Longer than between two looks.
const LOOKED: Duration = Duration::from_millis(1_200);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not {what}");
        sleep(Duration::from_millis(100));
    }
}

/// A Secret as the kubelet mounts it: files are links through `..data`, a link that is exchanged.
fn mount(folder: &Path, version: &str, fill: impl FnOnce(&Path)) {
    let data = folder.join(version);
    fs::create_dir_all(&data).unwrap();
    fill(&data);
    symlink(version, folder.join("..new")).unwrap();
    fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    for entry in fs::read_dir(&data).unwrap() {
        let name = entry.unwrap().file_name();
        let _ = symlink(Path::new("..data").join(&name), folder.join(&name));
    }
}

#[test]
fn an_exchanged_secret_is_in_use_within_seconds() {
    let site = Site::new();
    let (old, new) = (Authority::new(), Authority::new());
    let secret = site.path("secret");
    mount(&secret, "..1", |data| old.server().write(data, "tls"));
    let server =
        site.serve("tls_server_config:\n  cert_file: secret/tls.crt\n  key_file: secret/tls.key\n");
    let (before, after) = (Client::trusting(&old), Client::trusting(&new));
    assert_eq!(
        (before.status(&server), after.status(&server)),
        (Some(200), None)
    );

    mount(&secret, "..2", |data| new.server().write(data, "tls"));
    fs::remove_dir_all(secret.join("..1")).unwrap();
    until("the new certificate", || after.status(&server) == Some(200));
    assert_eq!(before.status(&server), None);
}

#[test]
fn a_bad_change_keeps_the_last_good_one_until_it_is_mended() {
    let site = Site::new();
    let users = |password: &str| format!("{TLS}basic_auth_users:\n  alice: {}\n", hash(password));
    let server = site.serve(&users("one"));
    let client = site.client();
    let status = |password: &str| {
        let found = client.get(&server, "/", &basic("alice", password));
        found.ok().map(|answer| answer.status)
    };
    assert_eq!(status("one"), Some(200));
    for bad in [
        "basic_auth_users:\n  alice: plain\n".to_owned(),
        "tls_server_config:\n  cert_file: gone\n  key_file: gone\n".to_owned(),
        "][".to_owned(),
        // Halfway through a write; and edits that would open the port.
        String::new(),
        TLS.to_owned(),
        users("one").replace(TLS, ""),
    ] {
        site.config(&bad);
        sleep(LOOKED);
        assert_eq!(status("one"), Some(200), "{bad}");
        assert_eq!(status("two"), Some(401), "{bad}");
    }
    fs::remove_file(site.path("web.yaml")).unwrap();
    sleep(LOOKED);
    assert_eq!(status("one"), Some(200));

    site.config(&users("two"));
    until("the new password", || status("two") == Some(200));
    assert_eq!(status("one"), Some(401));
}

#[test]
fn a_missing_certificate_is_found_when_it_comes() {
    let site = Site::new();
    let server = site.serve(TLS);
    let new = Authority::new();
    let after = Client::trusting(&new);
    fs::remove_file(site.path("server.key")).unwrap();
    sleep(LOOKED);
    assert_eq!(site.client().status(&server), Some(200));
    // First the certificate, whose key is not there yet.
    let next = new.server();
    fs::write(site.path("server.crt"), next.certificate.pem()).unwrap();
    sleep(LOOKED);
    assert_eq!(site.client().status(&server), Some(200));
    fs::write(site.path("server.key"), next.key.serialize_pem()).unwrap();
    until("the new certificate", || after.status(&server) == Some(200));
}

#[test]
fn a_removed_user_is_out_though_the_connection_stays() {
    let site = Site::new();
    let users = |name: &str| format!("basic_auth_users:\n  {name}: {}\n", hash("x"));
    let server = site.serve(&users("alice"));
    let mut stream = server.connect();
    let mut status = || ask_again(&mut stream, &basic("alice", "x"));
    assert_eq!(status(), 200);
    site.config(&users("bob"));
    sleep(LOOKED);
    assert_eq!(status(), 401);
    assert_eq!(Server::get(&server, "/", &basic("bob", "x")).status, 200);
}

/// One request of several on a connection.
fn ask_again(stream: &mut std::net::TcpStream, headers: &str) -> u16 {
    use std::io::{Read, Write};
    write!(
        stream,
        "GET /page.css HTTP/1.1\r\nHost: node\r\n{headers}\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
