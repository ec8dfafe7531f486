//! YAML as a tree in which every value knows where it stands.
//!
//! [`serde_saphyr`]'s own types tell a place but not a scalar's style, and stop at the first fault;
//! its parser, which it re-exports, gives both and goes on with the next document.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use serde_saphyr::granit_parser::{
    Event, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag, options,
};

use super::fault::Fault;
use super::scalar::Scalar;
use super::tabs;

/// Values of one text, those behind aliases counted each time.
pub(super) const MAX_NODES: usize = 50_000;
/// Collections within one another, those behind aliases included.
pub(super) const MAX_NESTING: usize = 32;

/// One value, and the byte of the text at which it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
    /// Values in it, itself included.
    size: usize,
    /// Collections within one another in it, itself included.
    height: usize,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    /// A scalar after `|` or `>`, and where its text stands.
    Block(String, Range<usize>),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value. A key may come twice: the last one counts.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key starts.
    pub(super) at: usize,
    pub(super) node: Rc<Node>,
}

/// One document of a text.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it starts: its `---` or its first value.
    pub(super) at: usize,
    pub(super) root: Result<Rc<Node>, Fault>,
}

impl Node {
    /// The value of a key, the last one's where it comes twice.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries.iter().rev().find(|entry| entry.key == key)
    }

    /// Nothing at all: `null`, `~` or an empty place.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null))
    }

    /// What it is, for a sentence.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) => scalar.kind(),
            Value::Block(..) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// A scalar's text, whatever its style.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar::Text(text)) | Value::Block(text, _) => Some(text),
            _ => None,
        }
    }
}

/// The documents of a text. One with a fault does not hide those after it; a bomb does.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let mut options = options! {
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    options.set_emit_comments(false);
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        nodes: 0,
        flows: 0,
        free: Vec::new(),
    };
    let mut documents: Vec<Document> = Vec::new();
    let mut at = 0;
    while let Some(next) = reader.parser.next() {
        let root = match next {
            Ok((Event::DocumentStart(..), span)) => {
                at = byte(&span);
                reader.flows = 0;
                reader.next_node()
            }
            Ok((Event::StreamEnd, _)) => break,
            Ok(_) => continue,
            Err(error) => Err(Fault::scan(&error, text)),
        };
        let fault = root.as_ref().err().map(|fault| fault.code);
        documents.push(Document { at, root });
        match fault {
            None => {}
            Some("yaml_bomb") => break,
            Some(_) if matches!(reader.parser.proceed_next_document(), Ok(true)) => {}
            Some(_) => break,
        }
    }
    if documents.is_empty()
        && let Some(at) = tabs::first(text, 0..text.len(), &[])
    {
        let root = Err(Fault::tab(at));
        documents.push(Document { at, root });
    }
    let mut end = text.len();
    for (i, document) in documents.iter_mut().enumerate().rev() {
        let start = if i == 0 { 0 } else { document.at };
        if document.root.is_ok()
            && let Some(at) = tabs::first(text, start..end, &reader.free)
        {
            document.root = Err(Fault::tab(at));
        }
        end = start;
    }
    documents
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    /// Flow collections, `[` and `{`, that are open.
    flows: usize,
    /// Where tabs may stand: quoted scalars, blocks and flow collections, in order.
    free: Vec<Range<usize>>,
}

impl<'t> Reader<'t> {
    fn next_node(&mut self) -> Result<Rc<Node>, Fault> {
        let (event, span) = self.next_event()?;
        self.node(event, &span)
    }

    fn next_event(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(Fault::scan(&error, self.text)),
            None => Err(Fault::not_yaml(self.text.len(), "the text ends too early")),
        }
    }

    /// The node that an event starts. Its recursion is as deep as the parser's limits let the text
    /// nest.
    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Rc<Node>, Fault> {
        let at = byte(span);
        let (node, anchor) = match event {
            Event::Alias(target) => return self.alias(target, at),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                self.free(span);
                (scalar(&text, style, tag.as_deref(), span), anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                self.count(1, at)?;
                let flow = usize::from(style == StructureStyle::Flow);
                self.flows += flow;
                let (node, end) = self.list(at)?;
                self.flows -= flow;
                self.free_flow(flow, at, &end);
                (node, anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                self.count(1, at)?;
                let flow = usize::from(style == StructureStyle::Flow);
                self.flows += flow;
                let (node, end) = self.map(at)?;
                self.flows -= flow;
                self.free_flow(flow, at, &end);
                (node, anchor)
            }
            _ => return Err(Fault::not_yaml(at, "a value is missing")),
        };
        if node.height > MAX_NESTING {
            return Err(Fault::deep(at));
        }
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    /// Lets tabs be where a scalar is.
    fn free(&mut self, span: &Span) {
        if self.flows == 0
            && let Some(range) = span.byte_range()
        {
            self.free.push(range);
        }
    }

    /// Lets tabs be where an outermost flow collection is.
    fn free_flow(&mut self, flow: usize, at: usize, end: &Span) {
        if let (1, 0, Some(end)) = (flow, self.flows, end.end.byte_offset()) {
            self.free.push(at..end);
        }
    }

    fn alias(&mut self, target: usize, at: usize) -> Result<Rc<Node>, Fault> {
        let Some(node) = self.anchors.get(&target).map(Rc::clone) else {
            return Err(Fault::not_yaml(at, "an alias stands within its own anchor"));
        };
        self.count(node.size, at)?;
        Ok(node)
    }

    fn list(&mut self, at: usize) -> Result<(Node, Span), Fault> {
        let mut items = Vec::new();
        let end = loop {
            let (event, span) = self.next_event()?;
            if matches!(event, Event::SequenceEnd) {
                break span;
            }
            items.push(self.node(event, &span)?);
        };
        let (size, height) = measure(items.iter());
        let value = Value::List(items);
        Ok((
            Node {
                at,
                value,
                size,
                height,
            },
            end,
        ))
    }

    fn map(&mut self, at: usize) -> Result<(Node, Span), Fault> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        let end = loop {
            let (event, span) = self.next_event()?;
            if matches!(event, Event::MappingEnd) {
                break span;
            }
            let merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key_at = byte(&span);
            let key = key(&*self.node(event, &span)?, key_at)?;
            let node = self.next_node()?;
            if merge {
                merged.push((key_at, node));
            } else {
                entries.push(Entry {
                    key,
                    at: key_at,
                    node,
                });
            }
        };
        if !merged.is_empty() {
            self.merge(&mut entries, merged)?;
        }
        let (size, height) = measure(entries.iter().map(|entry| &entry.node));
        let value = Value::Map(entries);
        Ok((
            Node {
                at,
                value,
                size,
                height,
            },
            end,
        ))
    }

    /// `<<`: the entries of other mappings, where this one has none of its own.
    fn merge(
        &mut self,
        entries: &mut Vec<Entry>,
        merged: Vec<(usize, Rc<Node>)>,
    ) -> Result<(), Fault> {
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for (at, other) in merged {
            let maps = match &other.value {
                Value::List(items) => items.iter().map(Rc::as_ref).collect(),
                _ => vec![&*other],
            };
            for map in maps {
                let Value::Map(others) = &map.value else {
                    return Err(Fault::not_yaml(
                        at,
                        "<< takes a mapping or a list of mappings, and this is neither",
                    ));
                };
                self.count(map.size, at)?;
                for entry in others.iter().rev() {
                    if known.insert(entry.key.clone()) {
                        entries.push(Entry {
                            key: entry.key.clone(),
                            at: entry.at,
                            node: Rc::clone(&entry.node),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, more: usize, at: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(Fault::bomb(
                at,
                &format!("it has more than {MAX_NODES} values once its aliases are followed"),
            ));
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Node {
    let at = byte(span);
    let value = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => {
            let end = span.end.byte_offset().unwrap_or(at);
            Value::Block(text.to_owned(), at..end)
        }
        _ => Value::Scalar(Scalar::resolve(
            text,
            style == ScalarStyle::Plain,
            tag.and_then(Tag::core_suffix),
        )),
    };
    Node {
        at,
        value,
        size: 1,
        height: 0,
    }
}

/// A key as the text that JSON takes.
fn key(node: &Node, at: usize) -> Result<String, Fault> {
    match &node.value {
        Value::Scalar(Scalar::Null) => Err(Fault::not_yaml(at, "a key is empty or null")),
        Value::Scalar(scalar) => Ok(scalar.to_string()),
        Value::Block(text, _) => Ok(text.clone()),
        _ => Err(Fault::not_yaml(at, "a key is a list or a mapping")),
    }
}

fn measure<'n>(children: impl Iterator<Item = &'n Rc<Node>>) -> (usize, usize) {
    children.fold((1, 1), |(size, height), child| {
        (size + child.size, height.max(child.height + 1))
    })
}

fn byte(span: &Span) -> usize {
    span.start.byte_offset().unwrap_or(0)
}
