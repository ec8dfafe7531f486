//! Events of pods, as an API server takes them.

use std::collections::VecDeque;

use serde_json::Value;

/// Events of pods: what was asked, and what the next answers are in the place of success.
#[derive(Default)]
pub(crate) struct Events {
    /// Method, path and body.
    pub(crate) asked: Vec<(String, String, Value)>,
    pub(crate) answers: VecDeque<u16>,
    /// Nothing is answered.
    pub(crate) hangs: bool,
}

impl Events {
    /// The status of an answer; `None`: there is none.
    pub(crate) fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> Option<u16> {
        let body = serde_json::from_slice(body).unwrap();
        self.asked.push((method.to_owned(), path.to_owned(), body));
        (!self.hangs).then(|| self.answers.pop_front().unwrap_or(201))
    }
}
