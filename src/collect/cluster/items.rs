//! A list of objects taken apart as it arrives, so that no more than one object is held: a node's
//! pods come to several MiB of JSON, of which a few KiB are kept.

use serde::Deserialize;

/// What stands around the items of a list.
#[derive(Debug, Default, Deserialize)]
pub(in crate::collect) struct ListObject {
    pub(in crate::collect) metadata: ListMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::collect) struct ListMetadata {
    pub(in crate::collect) resource_version: Option<String>,
    /// Where the next page goes on.
    #[serde(rename = "continue")]
    pub(in crate::collect) token: Option<String>,
}

/// An object, or what stands around them, is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect) struct TooLarge;

/// Splits `{"metadata":{…},"items":[{…},{…}]}` into its items and the rest. It does not check that
/// it is JSON: whoever reads the parts does.
#[derive(Debug)]
pub(in crate::collect) struct Items {
    /// Most bytes of one item, and of the rest.
    limit: usize,
    /// Brackets that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Within the one array of the root.
    in_array: bool,
    item: Vec<u8>,
    rest: Vec<u8>,
}

impl Items {
    pub(in crate::collect) fn new(limit: usize) -> Self {
        Self {
            limit,
            depth: 0,
            in_string: false,
            escaped: false,
            in_array: false,
            item: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Takes in more bytes; each item that they complete is given to `each`.
    ///
    /// # Errors
    /// Those of `each`, and [`TooLarge`].
    pub(in crate::collect) fn push<E: From<TooLarge>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                self.keep(byte)?;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    if byte == b'[' && self.depth == 1 {
                        self.in_array = true;
                        self.depth += 1;
                        self.rest.push(byte);
                        continue;
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.in_array && self.depth == 1 {
                        self.in_array = false;
                        self.rest.push(byte);
                        continue;
                    }
                    if self.in_array && self.depth == 2 {
                        self.item.push(byte);
                        each(&self.item)?;
                        self.item.clear();
                        continue;
                    }
                }
                b',' if self.in_array && self.depth == 2 => continue,
                _ => {}
            }
            self.keep(byte)?;
        }
        Ok(())
    }

    /// What stood around the items: `{"metadata":{…},"items":[]}`.
    pub(in crate::collect) fn rest(&self) -> &[u8] {
        &self.rest
    }

    fn keep(&mut self, byte: u8) -> Result<(), TooLarge> {
        let part = match self.in_array && self.depth > 2 {
            true => &mut self.item,
            false => &mut self.rest,
        };
        if part.len() >= self.limit {
            return Err(TooLarge);
        }
        part.push(byte);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn split(text: &[u8], at: &[usize], limit: usize) -> Result<(Vec<Value>, Value), TooLarge> {
        let mut items = Items::new(limit);
        let mut all = Vec::new();
        let mut each = |item: &[u8]| {
            all.push(serde_json::from_slice(item).unwrap());
            Ok(())
        };
        let mut from = 0;
        for &to in at.iter().chain([&text.len()]) {
            let to = to.clamp(from, text.len());
            items.push(&text[from..to], &mut each)?;
            from = to;
        }
        Ok((all, serde_json::from_slice(items.rest()).unwrap()))
    }

    proptest! {
        /// Wherever a list is cut while it arrives, and whatever its strings hold, its items and the
        /// rest come out as they were.
        #[test]
        fn comes_apart_at_any_cut(
            texts in proptest::collection::vec("(?s)[a\\[\\]{}\",\\\\ é\n]{0,12}", 0..6),
            cuts in proptest::collection::vec(0usize..400, 0..8),
            pretty: bool,
        ) {
            let objects: Vec<Value> = texts
                .iter()
                .map(|text| json!({"a": text, "b": [[text], {"c": []}], "d": {}}))
                .collect();
            let list = json!({
                "apiVersion": "v1", "items": objects,
                "metadata": {"resourceVersion": "7", "continue": "x[]"},
            });
            let text = match pretty {
                true => serde_json::to_vec_pretty(&list).unwrap(),
                false => serde_json::to_vec(&list).unwrap(),
            };
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (all, rest) = split(&text, &cuts, 10_000).unwrap();
            prop_assert_eq!(all, objects);
            prop_assert_eq!(&rest["items"], &json!([]));
            prop_assert_eq!(&rest["metadata"], &list["metadata"]);
        }

        /// No bytes make it panic or hold more than allowed.
        #[test]
        fn garbage_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut items = Items::new(64);
            let _ = items.push(&bytes, |_| Ok::<(), TooLarge>(()));
            prop_assert!(items.item.len() <= 65 && items.rest.len() <= 65);
        }
    }

    #[test]
    fn an_item_over_the_limit_is_refused() {
        let list = |n: usize| json!({"items": [{"a": "x".repeat(n)}]}).to_string();
        assert!(split(list(50).as_bytes(), &[], 100).is_ok());
        assert_eq!(split(list(100).as_bytes(), &[], 100), Err(TooLarge));
    }
}
