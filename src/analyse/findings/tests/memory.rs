//! Framebuffer over shares, and what that costs others.

use super::*;

const OVER: &str = "tenant_over_fair_share";
const ISOLATED: &str = "replicas_treated_as_isolated";

/// A pod with 20 GiB for a share and so much memory.
fn holding(pod: &str, mib: u64) -> ContainerView {
    ContainerView {
        memory: Reading::Value(Bytes::mib(mib)),
        memory_peak: Reading::Value(Bytes::mib(mib)),
        ..row(pod)
    }
}

#[test]
fn a_tenant_over_its_share_for_a_minute_and_back_for_five() {
    const SHARE: u64 = 20 << 10;
    let mut watch = Watch::of([shared([holding("a/big", SHARE + 2048), row("a/small")])]);
    assert!(watch.after(60).is_empty());
    assert_eq!(watch.after(1), [OVER]);
    watch.assert_words(
        OVER,
        "a/big",
        &["holds 22.0 GiB of GPU-0", "is 20.0 GiB", "MIG"],
    );
    let hold = |watch: &mut Watch, mib| {
        watch.snapshot.gpus[0].containers[0] = holding("a/big", mib);
    };
    // Up and down around the share: it stays, and its figures follow.
    for _ in 0..10 {
        hold(&mut watch, SHARE - 1024);
        assert_eq!(watch.after(200), [OVER]);
        hold(&mut watch, SHARE + 512);
        assert_eq!(watch.after(5), [OVER]);
    }
    watch.assert_words(OVER, "a/big", &["holds 20.5 GiB"]);
    hold(&mut watch, SHARE);
    assert_eq!(watch.after(300), [OVER]);
    assert!(watch.after(1).is_empty());
    // A little over, for ever, is none; nor is much for less than a minute at a time.
    hold(&mut watch, SHARE + 512);
    assert!(watch.after(WHILE).is_empty());
    for _ in 0..10 {
        hold(&mut watch, 2 * SHARE);
        assert!(watch.after(59).is_empty());
        hold(&mut watch, SHARE);
        assert!(watch.after(1).is_empty());
    }
}

#[test]
fn a_moment_without_a_list_is_no_break_and_a_long_one_is() {
    let big = || holding("a/big", 40 << 10);
    let blind = || ContainerView {
        memory: Reading::Failed(UNKNOWN),
        ..big()
    };
    let mut watch = Watch::of([shared([big(), row("a/small")])]);
    watch.after(40);
    watch.snapshot.gpus[0].containers[0] = blind();
    assert!(watch.after(10).is_empty());
    watch.snapshot.gpus[0].containers[0] = big();
    assert_eq!(watch.after(11), [OVER]);
    watch.snapshot.gpus[0].containers[0] = blind();
    assert_eq!(watch.after(30), [OVER]);
    assert!(watch.after(1).is_empty());
    watch.snapshot.gpus[0].containers[0] = big();
    assert!(watch.after(60).is_empty(), "its minute begins anew");
}

#[test]
fn shares_of_a_pods_containers_are_added_and_who_has_none_is_not_over_it() {
    let second = |mib, replicas| ContainerView {
        container: "second".into(),
        replicas: Reading::Value(replicas),
        fair_share: match replicas {
            0 => Reading::Unsupported,
            _ => Reading::Value(Bytes::gib(20)),
        },
        ..holding("a/pod", mib)
    };
    let codes = |rows: Vec<ContainerView>| {
        let mut watch = Watch::of([shared(rows)]);
        watch.after(100);
        watch.found.iter().any(|finding| &*finding.code == OVER)
    };
    let first = || holding("a/pod", 15 << 10);
    assert!(codes(vec![first(), second(15 << 10, 0), row("a/x")]));
    assert!(!codes(vec![first(), second(15 << 10, 1), row("a/x")]));
    assert!(!codes(vec![second(40 << 10, 0), row("a/x")]));
    let gone = ContainerView {
        present: false,
        ..holding("a/pod", 40 << 10)
    };
    assert!(!codes(vec![gone, row("a/x")]));
}

/// A pod of which so many processes ended under pressure.
fn ended(pod: &str, exits: u64) -> ContainerView {
    ContainerView {
        exits_under_pressure: exits,
        ..row(pod)
    }
}

#[test]
fn others_that_end_while_one_has_more_than_its_share() {
    let gpu = |rows: [ContainerView; 2]| GpuView {
        used_peak: Reading::Value(Bytes::gib(79)),
        ..shared(rows)
    };
    let mut watch = Watch::of([gpu([holding("a/hog", 60 << 10), ended("a/victim", 0)])]);
    assert!(watch.after(30).is_empty());
    watch.snapshot.gpus[0].containers[1] = ended("a/victim", 2);
    assert_eq!(watch.after(1), [ISOLATED]);
    let words = [
        "79.0 GiB of 80.0 GiB",
        "a/hog held up to 60.0 GiB",
        "is 20.0 GiB",
        "2 of a/victim",
    ];
    watch.assert_words(ISOLATED, "GPU-0", &words);
    // What happened is remembered for a quarter of an hour, and no longer.
    watch.snapshot.gpus[0].containers[0] = row("a/hog");
    assert_eq!(watch.after(900), [ISOLATED]);
    assert!(watch.after(1).is_empty());
    // A new container of the name, whose counter began anew.
    watch.snapshot.gpus[0] = gpu([holding("a/hog", 60 << 10), ended("a/victim", 1)]);
    assert_eq!(watch.after(1), [ISOLATED]);
    watch.assert_words(ISOLATED, "GPU-0", &["1 of a/victim"]);
}

#[test]
fn a_full_gpu_of_fair_tenants_or_the_hogs_own_end_is_none() {
    let full = |hog: ContainerView, other: ContainerView| {
        let mut watch = Watch::of([shared([hog, other])]);
        watch.after(30).join(" ")
    };
    assert_eq!(full(holding("a/one", 20 << 10), ended("a/two", 3)), "");
    // A rounding of its share, or a context, is no hog.
    assert_eq!(full(holding("a/one", 21 << 10), ended("a/two", 3)), "");
    let own = ContainerView {
        exits_under_pressure: 3,
        ..holding("a/hog", 60 << 10)
    };
    assert_eq!(full(own, row("a/other")), "");
    let unknown = ContainerView {
        memory_peak: Reading::Failed(UNKNOWN),
        ..holding("a/hog", 60 << 10)
    };
    assert_eq!(full(unknown, ended("a/victim", 3)), "");
    // Of the hog that crashed, its peak is still there.
    let gone = ContainerView {
        present: false,
        memory: Reading::Failed(UNKNOWN),
        replicas: Reading::Value(0),
        ..holding("a/hog", 60 << 10)
    };
    assert_eq!(full(gone, ended("a/victim", 3)), ISOLATED);
}
