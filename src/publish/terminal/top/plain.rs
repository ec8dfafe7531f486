//! The view without a terminal: a table for each answer.

use std::sync::Arc;

use crate::model::Snapshot;
use crate::publish::terminal::{render, table};

use super::window::Window;

/// Remembers what shares are told over.
#[derive(Debug, Default)]
pub struct Lines {
    window: Window,
}

impl Lines {
    /// The answer as tables, as [`crate::publish::terminal::table_between`] has them; shares are over
    /// what was seen in the last 20 s, between drains of each GPU's ring.
    pub fn table(&mut self, snapshot: &Arc<Snapshot>, width: Option<u16>) -> String {
        self.window.push(snapshot);
        match self.window.ends() {
            Some((earlier, _)) => {
                let span = snapshot.at.since(earlier.at);
                render(snapshot, Some(span), |view| self.window.rates(view), width)
            }
            None => table(snapshot, width),
        }
    }
}
