use super::*;

fn mig_on(it: &mut World) {
    it.label("nvidia.com/mig.capable", "true");
    it.label("nvidia.com/mig.config", "all-1g.10gb");
    it.label("nvidia.com/mig.config.state", "success");
}

fn strategy(it: &mut World, strategy: &'static str) {
    it.policy().mig_strategy = Some(strategy.into());
    it.wire(|wiring| wiring.mig_strategy = Some(strategy.into()));
}

#[test]
fn mig_and_its_strategy() {
    try_all(
        operator,
        &[
            (
                "in MIG mode, with none",
                |it| {
                    mig_on(it);
                    strategy(it, "none");
                },
                &["mig_with_strategy_none"],
            ),
            ("none without MIG", |it| strategy(it, "none"), &[]),
            (
                "MIG manager has turned it off",
                |it| {
                    mig_on(it);
                    strategy(it, "none");
                    it.label("nvidia.com/mig.config", "all-disabled");
                },
                &[],
            ),
            (
                "MIG manager is not done",
                |it| {
                    mig_on(it);
                    strategy(it, "none");
                    it.label("nvidia.com/mig.config.state", "pending");
                },
                &[],
            ),
            (
                "MPS with mixed",
                |it| {
                    strategy(it, "mixed");
                    it.profile("timeSlicing:", "mps:");
                    it.label("nvidia.com/gpu.sharing-strategy", "mps");
                },
                &["mps_with_mig_mixed"],
            ),
            (
                "MPS without",
                |it| {
                    it.profile("timeSlicing:", "mps:");
                    it.label("nvidia.com/gpu.sharing-strategy", "mps");
                },
                &[],
            ),
            (
                "the policy wins over the profile",
                |it| {
                    mig_on(it);
                    strategy(it, "mixed");
                    it.offer("nvidia.com/mig-1g.10gb", 14);
                    it.pods.clear();
                },
                &["mig_strategy_overridden"],
            ),
            (
                "instances that are shared",
                |it| {
                    mig_on(it);
                    strategy(it, "mixed");
                    it.profile("migStrategy: none", "migStrategy: mixed");
                    it.profile("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
                    it.label("nvidia.com/mig-1g.10gb.count", "14");
                    it.offer("nvidia.com/mig-1g.10gb", 56);
                    it.pods.clear();
                },
                &[],
            ),
            (
                "the same, by the policy's strategy alone",
                |it| {
                    mig_on(it);
                    strategy(it, "mixed");
                    it.profile("flags:\n  migStrategy: none\n", "");
                    it.profile("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
                    it.offer("nvidia.com/mig-1g.10gb", 56);
                    it.pods.clear();
                },
                &[],
            ),
            (
                "instances that are not shared as they should be",
                |it| {
                    mig_on(it);
                    strategy(it, "mixed");
                    it.profile("migStrategy: none", "migStrategy: mixed");
                    it.profile("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
                    it.label("nvidia.com/mig-1g.10gb.count", "14");
                    it.offer("nvidia.com/mig-1g.10gb", 14);
                    it.pods.clear();
                },
                &["sharing_not_in_force"],
            ),
        ],
    );
    let none = |it: &mut World| {
        mig_on(it);
        strategy(it, "none");
    };
    let found = of_code(operator(), none, "mig_with_strategy_none");
    assert_eq!(
        found[0].mend,
        [
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
          '{\"spec\":{\"mig\":{\"strategy\":\"mixed\"}}}'"
        ]
    );
    assert!(
        found[0]
            .words
            .contains("spec.mig.strategy of the ClusterPolicy"),
        "{}",
        found[0].words
    );
    // Alone, the profile says so.
    let found = of_code(alone(), mig_on, "mig_with_strategy_none");
    assert!(
        found[0].words.contains("flags.migStrategy"),
        "{}",
        found[0].words
    );
    assert_eq!(
        found[0].mend,
        [
            "helm upgrade nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --reuse-values --version 0.20.0 \
          --set migStrategy=mixed"
        ]
    );
}
