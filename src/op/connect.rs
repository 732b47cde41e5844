//! `connect`: a further connection of the case's client to the case's server, with other facts.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::options::{KeepaliveMap, LimitsMap};
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
        /// It is made by its first call; nobody dials before.
        lazy: Option<bool>,
        /// The largest messages of the client.
        limits: Option<LimitsMap>,
        /// PINGs of the client, also without calls.
        keepalive: Option<KeepaliveMap>,
        /// The largest messages of the server, which is another one then.
        server_limits: Option<LimitsMap>,
        /// Its address refuses connections until a call with `wait_for_ready` waits for one.
        refuse: Option<bool>,
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
    let options = reader.channel_options(&fields);
    let server_limits = reader.limits(&fields, "server_limits");
    let refuse = reader.yes(&fields, "refuse");
    if refuse
        && !options.lazy
        && let Some(entry) = fields.entry("refuse")
    {
        let message = "`refuse` is for a connection that is not made yet";
        reader.sink.error("misplaced-key", entry.span, message, "nobody would wait for it", "add `lazy: true`");
    }
    let name = reader.sink.text(name?, "`as`")?;
    let op = Op::Connect(ConnectDef { name: name.value.clone(), with, options, server_limits, refuse });
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
