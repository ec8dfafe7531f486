//! The lines are what a scrape comes to, and the same arguments give the same lines.

use super::*;

fn arguments(folder: &Path, name: &str, labels: &[&str]) -> Arguments {
    let mut all = vec!["slicewatch-backfill", "--scenario", "noisy-neighbour"];
    all.extend(["--start", "1767225600", "--length", "61s"]);
    for label in labels {
        all.extend(["--label", label]);
    }
    let [output, truth] = ["txt", "json"].map(|end| folder.join(format!("{name}.{end}")));
    let paths = [
        "--output",
        output.to_str().unwrap(),
        "--truth",
        truth.to_str().unwrap(),
    ];
    Arguments::try_parse_from(all.iter().copied().chain(paths)).unwrap()
}

#[test]
fn every_line_has_its_time_and_the_labels_of_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(
        folder.path(),
        "a",
        &["job=slicewatch", "instance=node-1:9735"],
    );
    let samples = run(&arguments).unwrap();
    let text = std::fs::read_to_string(&arguments.output).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    let lines = &lines[..lines.len() - 1];
    // Three scrapes of at least a hundred series, and five of Prometheus' own in each.
    assert_eq!(lines.len() as u64, samples + 15);
    assert!(samples > 300);
    let mut times = std::collections::BTreeSet::new();
    for line in lines {
        assert!(
            line.contains("{job=\"slicewatch\",instance=\"node-1:9735\""),
            "{line}"
        );
        times.insert(line.rsplit_once(' ').unwrap().1);
    }
    assert!(
        times
            .iter()
            .eq(["1767225600.000", "1767225630.000", "1767225660.000"].iter()),
        "{times:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("up{")));
    let truth: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&arguments.truth).unwrap()).unwrap();
    assert_eq!(truth["looks"][0]["pods"].as_array().unwrap().len(), 4);
}

#[test]
fn the_same_arguments_give_the_same_lines() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| {
        let arguments = arguments(folder.path(), name, &["instance=n"]);
        run(&arguments).unwrap();
        std::fs::read_to_string(&arguments.output).unwrap()
    });
    assert!(first == second);
}

#[test]
fn labels_that_are_none_are_refused() {
    for bad in ["job", "=x", "a-b=c", "job=a\"b"] {
        assert!(Target::new(&[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn a_step_of_the_nodes_clock_moves_no_scrape() {
    let folder = tempfile::tempdir().unwrap();
    let [still, stepped] = [("a", vec![]), ("b", vec![(20.0, -90.0)])].map(|(name, steps)| {
        let arguments = Arguments {
            clock_steps: steps,
            ..arguments(folder.path(), name, &["instance=n"])
        };
        run(&arguments).unwrap();
        let text = std::fs::read_to_string(&arguments.output).unwrap();
        let last = |name: &str| {
            let line = text.lines().rfind(|line| line.starts_with(name)).unwrap();
            let mut words = line.rsplit(' ').map(|word| word.parse::<f64>().unwrap());
            (words.next().unwrap(), words.next().unwrap())
        };
        (
            last("up{"),
            last("slicewatch_source_last_success_timestamp_seconds{"),
        )
    });
    assert_eq!(still.0, stepped.0);
    assert!(
        (still.1.1 - stepped.1.1 - 90.0).abs() < 5.0,
        "{still:?} {stepped:?}"
    );
}

#[test]
fn clock_steps_are_two_numbers() {
    assert_eq!(clock_step("600:-90"), Ok((600.0, -90.0)));
    for bad in ["", "600", "a:b", "-1:5", "NaN:1", "1:inf"] {
        assert!(clock_step(bad).is_err(), "{bad}");
    }
}
