//! What keys do, in any order and at any size.

use proptest::prelude::*;

use super::*;

use crate::publish::example;
use slicewatch::simulate::scenarios;

const SIZES: [(u16, u16); 8] = [
    (80, 24),
    (40, 10),
    (200, 60),
    (1, 1),
    (2, 3),
    (20, 5),
    (300, 2),
    (5, 80),
];

#[test]
fn every_scenario_is_drawn_at_every_size() {
    for scenario_of in scenarios() {
        let snapshots = scenario(scenario_of.name, 30);
        for size in SIZES {
            let mut top = view(&snapshots, PLAIN);
            for keys in ["", "n", "n", "f", "?"] {
                press_all(&mut top, keys);
                drawn(&mut top, size, 30);
            }
        }
        let mut top = view(&snapshots, PLAIN);
        let picture = drawn(&mut top, (200, 50), 30);
        let gpu = &snapshots[29].gpus[0].identity.uuid;
        assert!(
            picture.contains(gpu.as_str()),
            "{}:\n{picture}",
            scenario_of.name
        );
    }
}

#[test]
fn without_data_the_screen_says_so() {
    let mut top = view(&[], PLAIN);
    let picture = drawn(&mut top, (80, 24), 0);
    assert!(
        picture.contains("Waiting for the first answer."),
        "{picture}"
    );
    top.on(
        Event::NoAnswer("x did not answer; give --url".to_owned()),
        Duration::from_secs(3),
    );
    let picture = drawn(&mut top, (80, 24), 10);
    assert!(
        picture.contains("no answer for 7 s, asking on: x did not answer; give --url"),
        "{picture}"
    );
    let mut bare = example::full();
    bare.gpus.clear();
    bare.mig_cards.clear();
    let mut top = view(&[Arc::new(bare)], PLAIN);
    assert!(drawn(&mut top, (80, 24), 0).contains("No GPU to show"));
    for key in "jknsr?f".chars() {
        press(&mut top, KeyCode::Char(key));
        drawn(&mut top, (80, 24), 0);
    }
}

#[test]
fn what_was_known_stays_with_its_age_while_nobody_answers() {
    let mut top = view(&scenario("quiet", 30), PLAIN);
    for second in 30..60 {
        top.on(
            Event::NoAnswer("gone".to_owned()),
            Duration::from_secs(second),
        );
    }
    let picture = drawn(&mut top, (100, 30), 60);
    assert!(picture.contains("31 s old"), "{picture}");
    assert!(picture.contains("no answer for 30 s"), "{picture}");
    assert!(picture.contains("research/jupyter-ana-0"), "{picture}");
}

#[test]
fn the_same_answer_again_is_no_news() {
    let snapshots = scenario("quiet", 20);
    let last = snapshots.last().unwrap();
    let mut top = view(&snapshots, PLAIN);
    for second in 20..30 {
        top.on(Event::Answer(Arc::clone(last)), Duration::from_secs(second));
    }
    let picture = drawn(&mut top, (100, 30), 30);
    assert!(picture.contains("11 s old"), "{picture}");
}

#[test]
fn a_pause_holds_the_picture_and_its_end_brings_the_newest() {
    let snapshots = scenario("noisy-neighbour", 60);
    let (before, after) = snapshots.split_at(30);
    let mut top = view(before, PLAIN);
    let held = drawn(&mut top, (100, 30), 29);
    press_all(&mut top, "p");
    for snapshot in after {
        top.on(Event::Answer(Arc::clone(snapshot)), Duration::from_secs(29));
    }
    let paused = drawn(&mut top, (100, 30), 29);
    assert!(paused.contains("PAUSED"));
    let body = |picture: &str| {
        picture
            .lines()
            .skip(1)
            .map(str::to_owned)
            .filter(|line| !line.contains("mean up to"))
            .collect::<Vec<_>>()
    };
    assert_eq!(body(&held), body(&paused));
    press_all(&mut top, "p");
    assert_ne!(body(&held), body(&drawn(&mut top, (100, 30), 29)));
}

/// The rows in their order, as far as they are named.
fn names(picture: &str) -> Vec<&str> {
    let rows = picture
        .lines()
        .filter_map(|line| line.get(2..)?.split_whitespace().next());
    rows.filter(|name| name.contains('/') && !name.starts_with("http"))
        .collect()
}

#[test]
fn rows_are_sorted_reversed_and_filtered() {
    let mut top = view(&scenario("noisy-neighbour", 120), PLAIN);
    let mut order = |keys: &str| {
        press_all(&mut top, keys);
        let picture = drawn(&mut top, (140, 40), 120);
        names(&picture)
            .into_iter()
            .map(|name| name.split('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let by_memory = order("");
    assert_eq!(by_memory[0], "ml-training");
    assert_eq!(by_memory.len(), 4);
    let mut reversed = order("r");
    reversed.reverse();
    assert_eq!(reversed, by_memory);
    let by_time = order("rs");
    assert_eq!(by_time[0], "ml-training");
    assert_eq!(order("s")[0], "ml-training");
    let mut sorted = by_memory.clone();
    sorted.sort();
    assert_eq!(order("s"), sorted);
    order("/");
    assert_eq!(order("ANALYTICS/"), ["analytics"]);
    press(&mut top, KeyCode::Esc);
    assert_eq!(names(&drawn(&mut top, (140, 40), 120)).len(), 4);
}

#[test]
fn tab_goes_from_gpu_to_gpu_and_the_chosen_row_is_always_seen() {
    let mut top = view(&scenario("many-pods", 10), PLAIN);
    for turn in 0..10 {
        let picture = drawn(&mut top, (80, 24), 10);
        let chosen = picture
            .lines()
            .filter(|line| line.starts_with("> "))
            .count();
        assert_eq!(chosen, 1, "{picture}");
        let gpu = format!("GPU {} ", turn % 8);
        assert!(picture.contains(&gpu), "{gpu}:\n{picture}");
        press(&mut top, KeyCode::Tab);
    }
    for code in [
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::Home,
        KeyCode::PageDown,
        KeyCode::BackTab,
    ] {
        press(&mut top, code);
        let picture = drawn(&mut top, (60, 12), 10);
        assert!(
            picture.lines().any(|line| line.starts_with("> ")),
            "{code:?}:\n{picture}"
        );
    }
}

#[test]
fn a_chosen_pod_stays_chosen_and_its_neighbours_are_ranked() {
    let snapshots = scenario("noisy-neighbour", 240);
    let mut top = view(&snapshots[..200], PLAIN);
    press_all(&mut top, "/");
    press_all(&mut top, "search");
    press(&mut top, KeyCode::Enter);
    press_all(&mut top, "n");
    let picture = drawn(&mut top, (120, 30), 200);
    let first = picture
        .lines()
        .skip_while(|line| !line.contains("waits for it"))
        .nth(1);
    assert!(
        first.unwrap().contains("ml-training/finetune-0"),
        "{picture}"
    );
    press(&mut top, KeyCode::Esc);
    press(&mut top, KeyCode::Esc);
    for snapshot in &snapshots[200..] {
        top.on(
            Event::Answer(Arc::clone(snapshot)),
            Duration::from_secs(240),
        );
    }
    let picture = drawn(&mut top, (120, 30), 240);
    let chosen = picture.lines().find(|line| line.starts_with("> "));
    assert!(chosen.unwrap().contains("shop/search-"), "{picture}");
}

#[test]
fn an_agent_started_anew_is_told_of_without_the_old_one() {
    let old = scenario("noisy-neighbour", 60);
    let mut top = view(&old, PLAIN);
    // Counters begin again, time does not.
    let anew: Vec<_> = scenario("noisy-neighbour", 30)
        .into_iter()
        .map(|snapshot| {
            let mut snapshot = (*snapshot).clone();
            snapshot.at = snapshot.at.later(Duration::from_secs(120));
            Arc::new(snapshot)
        })
        .collect();
    for snapshot in &anew {
        top.on(Event::Answer(Arc::clone(snapshot)), Duration::from_secs(29));
    }
    // The first has no GPU yet, which an agent that runs may have too.
    let wanted = drawn(&mut view(&anew[1..], PLAIN), (120, 30), 28);
    assert_eq!(drawn(&mut top, (120, 30), 29), wanted);
    assert!(wanted.contains("% busy"), "{wanted}");
}

#[test]
fn plain_lines_tell_shares_over_whole_drains() {
    let mut lines = Lines::default();
    let mut table = String::new();
    for snapshot in scenario("noisy-neighbour", 60).iter().step_by(2) {
        table = lines.table(snapshot, None);
    }
    let trainer = table.lines().find(|line| line.contains("finetune-0"));
    let share = trainer.unwrap().split_whitespace().rev().find_map(|word| {
        let share: f64 = word.parse().ok()?;
        (share > 50.0 && share < 90.0).then_some(share)
    });
    let share = share.unwrap();
    assert!((68.0..78.0).contains(&share), "{share}:\n{table}");
    assert!(
        table.contains("shares over 20.0 s") || table.contains("shares over 21.0 s"),
        "{table}"
    );
}

fn any_key() -> impl Strategy<Value = KeyCode> {
    prop_oneof![
        prop::sample::select(vec![
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Backspace,
            KeyCode::Left,
            KeyCode::F(1),
        ]),
        prop::sample::select("jknsrfph? /?aeé🦀\u{1b}0".chars().collect::<Vec<_>>())
            .prop_map(KeyCode::Char),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is pressed, answered and resized, in any order: something is drawn, nothing panics.
    #[test]
    fn nothing_that_happens_panics(
        steps in prop::collection::vec((any_key(), any::<prop::sample::Index>(), 0u16..140, 0u16..50), 1..60),
        ascii in any::<bool>(),
    ) {
        thread_local! {
            static SEEN: Vec<Arc<Snapshot>> = {
                let mut seen = vec![Arc::new(example::full())];
                for name in ["faults", "mig", "churn"] {
                    seen.extend(scenario(name, 25).into_iter().step_by(3));
                }
                seen
            };
        }
        SEEN.with(|seen| {
            let look = Look { unicode: !ascii, color: true };
            let mut top = Top::new("x".to_owned(), look);
            for (second, (key, index, width, height)) in steps.into_iter().enumerate() {
                let now = Duration::from_secs(second as u64);
                let event = match second % 3 {
                    0 => Event::Answer(Arc::clone(index.get(seen))),
                    1 if second % 4 == 0 => Event::NoAnswer("\u{1b}[2J".to_owned()),
                    _ => Event::Key(KeyEvent::new(key, KeyModifiers::NONE)),
                };
                top.on(event, now);
                drawn(&mut top, (width, height), second as u64);
            }
        });
    }
}
