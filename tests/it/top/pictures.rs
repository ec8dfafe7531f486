//! What is on the screen.

use super::*;

use crate::publish::example;

#[test]
fn golden_80_by_24() {
    let mut top = view(&scenario("noisy-neighbour", 240), PLAIN);
    insta::assert_snapshot!(drawn(&mut top, (80, 24), 240));
}

#[test]
fn golden_120_by_40() {
    let mut top = view(&scenario("noisy-neighbour", 240), PLAIN);
    insta::assert_snapshot!(drawn(&mut top, (120, 40), 240));
}

#[test]
fn golden_neighbours() {
    let mut top = view(&scenario("noisy-neighbour", 240), PLAIN);
    press_all(&mut top, "jn");
    insta::assert_snapshot!(drawn(&mut top, (100, 16), 240));
}

#[test]
fn golden_of_all_that_can_be_unknown_in_ascii() {
    let look = Look {
        unicode: false,
        color: false,
    };
    let mut top = view(&[Arc::new(example::full())], look);
    let mut picture = drawn(&mut top, (100, 60), 0);
    press_all(&mut top, "f");
    picture += &drawn(&mut top, (100, 60), 0);
    assert!(picture.is_ascii(), "{picture}");
    insta::assert_snapshot!(picture);
}
