//! Rings of levels, all on the same axis of time.

use super::POINTS;
use super::level::Level;

/// As many rings as a device or a container has series.
#[derive(Debug)]
pub(super) struct Columns<const N: usize>(Box<[[Level; POINTS]]>);

impl<const N: usize> Columns<N> {
    /// Bytes on the heap.
    pub(super) const BYTES: usize = N * POINTS * size_of::<Level>();

    /// Nothing known.
    pub(super) fn new() -> Self {
        Self(vec![[Level::UNKNOWN; POINTS]; N].into_boxed_slice())
    }

    /// Forgets what stood in a slot.
    pub(super) fn blank(&mut self, slot: usize) {
        for column in &mut self.0 {
            column[slot] = Level::UNKNOWN;
        }
    }

    pub(super) fn set(&mut self, column: usize, slot: usize, value: Option<f64>) {
        self.0[column][slot] = Level::of(value);
    }

    pub(super) fn get(&self, column: usize, slot: usize) -> Option<f32> {
        self.0[column][slot].value()
    }
}
