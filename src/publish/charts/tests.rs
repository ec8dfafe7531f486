use proptest::prelude::*;

use super::*;

fn points(values: &[Option<f32>]) -> Vec<Point> {
    let last = (values.len() - 1) as f32;
    let points = values.iter().enumerate();
    points
        .map(|(index, &value)| Point {
            at: index as f32 / last,
            value,
        })
        .collect()
}

fn sparkline(values: &[Option<f32>], area: bool) -> String {
    let curve = Curve {
        class: "busy",
        points: &points(values),
        area,
    };
    spark(&Label::Decoration, 1.0, &[curve])
}

#[test]
fn a_gap_is_neither_zero_nor_joined() {
    let svg = sparkline(&[Some(0.0), Some(1.0), None, Some(0.5), Some(0.25)], false);
    assert!(svg.contains("d=\"M0 200L225 0M675 100L900 150\""), "{svg}");
    let svg = sparkline(&[Some(0.5), Some(1.0), None], true);
    assert!(svg.contains("d=\"M0 200V100L450 0V200Z\""), "{svg}");
    let svg = sparkline(&[None, None], true);
    assert!(!svg.contains("<path"), "{svg}");
}

#[test]
fn a_single_point_is_a_dot_and_level_lines_are_short() {
    let svg = sparkline(&[None, Some(0.5), None], false);
    assert!(svg.contains("d=\"M450 100h0\""), "{svg}");
    let svg = sparkline(&[Some(0.5); 181], false);
    assert!(svg.contains("d=\"M0 100L900 100\""), "{svg}");
}

#[test]
fn a_bar_shows_what_is_over_its_mark() {
    let within = bar(&Label::Decoration, 100.0, 20.0, Some(25.0));
    assert!(!within.contains("over"), "{within}");
    let over = bar(&Label::Decoration, 100.0, 60.0, Some(25.0));
    assert!(over.contains("class=\"part\" width=\"25%\""), "{over}");
    assert!(
        over.contains("class=\"over\" x=\"25%\" width=\"35.00%\""),
        "{over}"
    );
    assert!(over.contains("x1=\"25%\""), "{over}");
}

#[test]
fn a_stack_never_runs_over_its_whole() {
    let segment = |value| Segment {
        class: "c0",
        value,
        name: "train-0",
    };
    let svg = stack(
        &Label::Decoration,
        10.0,
        &[segment(6.0), segment(9.0)],
        &[5.0],
    );
    assert!(svg.contains("x=\"0%\" width=\"60.00%\""), "{svg}");
    assert!(svg.contains("x=\"60%\" width=\"40.00%\""), "{svg}");
    let nothing = stack(&Label::Decoration, 0.0, &[segment(0.0)], &[]);
    assert!(!nothing.contains("rect"), "{nothing}");
}

#[test]
fn a_long_name_loses_its_middle_and_can_be_read_whole() {
    let name = format!("{}é", "ab".repeat(126));
    let row = Bar {
        class: "c0",
        name: &name,
        words: "1 ms",
        value: 1.0,
    };
    let svg = ranked(&Label::Decoration, &[row]);
    assert!(svg.contains(&format!("<title>{name}</title>")), "{svg}");
    let short = "ab".repeat(9) + "…" + &"ab".repeat(8) + "é<";
    assert!(svg.contains(&short), "{svg}");
}

#[test]
fn those_who_do_not_see_are_told() {
    let label = Label::Image {
        title: "Memory <b>",
        description: "It grew & grew.",
    };
    let svg = ranked(&label, &[]);
    assert!(svg.contains(
        "role=\"img\" height=\"0\"><title>Memory &lt;b&gt;</title><desc>It grew &amp; grew.</desc>"
    ));
    assert!(sparkline(&[None], false).contains("aria-hidden=\"true\""));
}

proptest! {
    /// Whatever the values, coordinates stay within the drawing and no number is unreadable.
    #[test]
    fn no_value_leaves_the_drawing(
        values in proptest::collection::vec(proptest::option::of(any::<f32>()), 2..50),
        top in any::<f32>(),
    ) {
        let points = points(&values);
        let curve = Curve { class: "x", points: &points, area: true };
        let svg = spark(&Label::Decoration, top, &[curve]);
        prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        for path in svg.split(" d=\"").skip(1) {
            let path = path.split('"').next().unwrap();
            for number in path.split(|c: char| !c.is_ascii_digit() && c != '-').filter(|n| !n.is_empty()) {
                prop_assert!((0..=900).contains(&number.parse::<i32>().unwrap()), "{}", svg);
            }
        }
    }
}
