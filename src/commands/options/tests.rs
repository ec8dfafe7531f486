use super::*;

fn parse(toml: &str) -> Result<Settings, String> {
    toml::from_str::<Options>(toml)
        .map_err(|error| error.to_string())
        .and_then(|options| options.settle().map_err(|error| error.to_string()))
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let flags = Options {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 1))),
        ..Options::default()
    };
    let file: Options = toml::from_str("listen = \"127.0.0.1:2\"\ndrain-period = \"4s\"").unwrap();
    let settings = flags.over(file).settle().unwrap();
    assert_eq!(settings.listen.port(), 1);
    assert_eq!(settings.sampler.drain_period, Duration::from_secs(4));
    assert_eq!(settings.sampler.memory_period, Duration::from_millis(100));
    assert_eq!(settings.kubelet, Kubelet::Socket(KUBELET_SOCKET.into()));
}

#[test]
fn bad_settings_name_the_key_and_the_mend() {
    for (toml, words) in [
        (
            "\n\nlisten-on = \"x\"",
            &["line 3", "listen-on", "expected one of"][..],
        ),
        ("drain-period = \"-3s\"", &["line 1", "-3s", "positive"]),
        ("drain-period = \"3\"", &["time unit needed", "3s"]),
        ("drain-period = \"3 parsecs\"", &["parsecs"]),
        ("drain-period = 3", &["drain-period", "string"]),
        (
            "drain-period = \"20s\"",
            &["drain-period", "20s", "1s to 8s"],
        ),
        ("memory-period = \"0s\"", &["zero"]),
        (
            "pressure-floor-ratio = 5.0",
            &["pressure-floor-ratio", "5", "0.05"],
        ),
        ("pressure-floor-ratio = nan", &["pressure-floor-ratio"]),
        ("listen = \"9735\"", &["listen", "line 1"]),
        ("proc-root = \"proc\"", &["proc-root", "absolute"]),
        ("listen = ", &["line 1"]),
    ] {
        let error = parse(toml).expect_err(toml);
        for word in words {
            assert!(
                error.contains(word),
                "{toml:?} says {error:?}, without {word:?}"
            );
        }
    }
}

#[test]
fn the_kubelet_can_be_told_to_be_absent() {
    assert_eq!(
        parse("kubelet-socket = \"none\"").unwrap().kubelet,
        Kubelet::None
    );
}

#[test]
fn the_api_server_is_that_of_a_file_of_the_environment_or_none() {
    for (toml, cluster) in [
        ("", Cluster::OfEnvironment),
        ("kubeconfig = \"\"", Cluster::OfEnvironment),
        ("kubeconfig = \"none\"", Cluster::None),
        (
            "kubeconfig = \"/etc/kube\"",
            Cluster::Kubeconfig("/etc/kube".into()),
        ),
    ] {
        assert_eq!(parse(toml).unwrap().cluster, cluster, "{toml}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = settings(Options::default(), Some(Path::new("/no/such.toml"))).unwrap_err();
    assert!(error.to_string().contains("/no/such.toml"));
}
