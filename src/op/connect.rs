//! `connect`: a further connection of the case's client to the case's server, with other facts.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::{OpDef, OpReader, ParsedOp};
use crate::axis;
use crate::scenario::model::{ConnectDef, Op};
use crate::scenario::schema::{Text, shape};
use crate::scenario::yaml::{Entry, Node, short};

pub(super) const OP: OpDef = OpDef {
    name: "connect",
    about: "another connection between the same two peers, for `on` of later steps",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Connect>(),
};

shape! {
    /// Another connection.
    Connect is "`connect`" {
        /// Its name, for `on: NAME` beside later ops.
        name as "as": Text,
        /// What it asks for in place of what the case asks: axis → value.
        with: Option<BTreeMap<String, Text>>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Connect>(node)?;
    let name = fields.require(reader.sink, "as", "give the connection a name: `as: other`");
    let mut with = IndexMap::new();
    let wishes = fields.get(reader.sink, "with").and_then(|node| reader.sink.entries(node, "`with`"));
    for entry in wishes.unwrap_or_default() {
        with.extend(reader.wish(entry));
    }
    let name = reader.sink.text(name?, "`as`")?;
    let op = Op::Connect(ConnectDef { name: name.value.clone(), with });
    Some(ParsedOp { connects: Some(name), ..ParsedOp::of(op) })
}

impl OpReader<'_> {
    /// One axis of `with`.
    fn wish(&mut self, entry: &Entry) -> Option<(String, &'static str)> {
        let axis = entry.key.as_str();
        if !ConnectDef::AXES.contains(&axis) {
            let (message, help) = if axis::find(axis).is_some() {
                (
                    format!("`{axis}` cannot be another one for a further connection"),
                    format!(
                        "it is between the same two peers of a case; it can ask for {}",
                        ConnectDef::AXES.join(", ")
                    ),
                )
            } else {
                let help = self.sink.suggest(axis, "axes of a connection", ConnectDef::AXES.iter().copied());
                (format!("unknown axis `{}` in `with`", short(axis)), help)
            };
            self.sink.error("unknown-axis", entry.span, message, "not of a connection", &help);
            return None;
        }
        let value = self.sink.text(&entry.value, &format!("`{axis}`"))?;
        let canonical = axis::canonical(axis, &value.value);
        if canonical.is_none() {
            let known = axis::find(axis).into_iter().flat_map(|def| def.values).map(|value| value.name);
            let message = format!("`{axis}` cannot be `{}`", short(&value.value));
            let help = self.sink.suggest(&value.value, "values", known);
            self.sink.error("unknown-value", value.span, message, "not a value of this axis", &help);
        }
        Some((axis.to_owned(), canonical?))
    }
}
