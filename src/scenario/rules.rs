//! `expectations`: what is known to fail, and how. Whether a rule matches any case and whether two
//! contradict each other is the plan's business.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::builtin::COMPONENTS;
use super::decode::{CODES, Fields, Sink};
use super::expr::Pending;
use super::model::{Peer, Rule, RuleOutcome};
use super::reader::legal_name;
use super::schema;
use super::yaml::{Kind, Node, short};
use crate::axis;
use crate::diag::{Diagnostic, Span, Spanned};
use crate::outcome::{Exit, Match, Phase};

const PHASES: &[(&str, Phase)] = &[
    ("build", Phase::Build),
    ("spawn", Phase::Spawn),
    ("handshake", Phase::Handshake),
    ("connect", Phase::Connect),
    ("tls", Phase::Tls),
    ("rpc", Phase::Rpc),
    ("check", Phase::Check),
    ("teardown", Phase::Teardown),
    ("driver", Phase::Driver),
];

/// Reads rules of one file after another; own ones come first.
pub(super) struct Rules<'a> {
    pub(super) peers: &'a IndexMap<String, Peer>,
    pub(super) incomplete: bool,
    pub(super) all: Vec<Rule>,
    ids: HashMap<String, Span>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(peers: &'a IndexMap<String, Peer>, incomplete: bool) -> Self {
        Self { peers, incomplete, all: Vec::new(), ids: HashMap::new() }
    }

    /// Reads `expectations` of one file.
    pub(super) fn read(&mut self, sink: &mut Sink, pending: &mut Pending, node: &Node, included: bool) {
        for item in sink.list(node, "`expectations`").unwrap_or_default() {
            let Some(fields) = sink.fields::<schema::Rule>(item) else { continue };
            let rule = self.rule(sink, pending, &fields, included);
            self.all.extend(rule);
        }
    }

    fn rule(&mut self, sink: &mut Sink, pending: &mut Pending, fields: &Fields<'_>, included: bool) -> Option<Rule> {
        let id = fields.require(sink, "id", "a short name for reports, such as `grpcio-cannot-verify-p521`");
        let id = id.and_then(|node| sink.text(node, "`id`"));
        if let Some(id) = &id {
            legal_name(sink, &id.value, id.span, "a rule");
            if let Some(first) = self.ids.insert(id.value.clone(), id.span) {
                sink.push(
                    Diagnostic::error("duplicate-name", format!("two rules have the id `{}`", short(&id.value)))
                        .at(id.span, "second")
                        .at(first, "first"),
                );
            }
        }
        let when = fields.require(sink, "when", "say which cases: `when: client == python and tls == auto`");
        let when = when.and_then(|node| pending.read(sink, node, "`when`", true));
        let reason =
            fields.require(sink, "reason", "a limitation is only known with its reason; it is shown in reports");
        let reason = reason.and_then(|node| sink.text(node, "`reason`"));
        let outcome = outcome(sink, fields);
        let at = fields.get(sink, "at").and_then(|node| phase(sink, node));
        let matches = fields.get(sink, "match").map(|node| matching(sink, node)).unwrap_or_default();
        let versions = fields.get(sink, "versions").map(|node| self.versions(sink, node)).unwrap_or_default();
        let review_by = fields.get(sink, "review_by").and_then(|node| date(sink, node));
        if let Some(RuleOutcome::NotEffective { .. } | RuleOutcome::Unsupported) = &outcome {
            for key in ["at", "match"] {
                if let Some(entry) = fields.entry(key) {
                    let message = format!("`{key}` says how a case fails, but this rule does not expect it to fail");
                    sink.error(
                        "useless-key",
                        entry.span,
                        message,
                        "without meaning here",
                        "remove it, or expect `outcome: failed`",
                    );
                }
            }
        }
        let (issue, advise) = (fields.text(sink, "issue"), fields.text(sink, "advise"));
        Some(Rule {
            id: id?.value,
            span: fields.span,
            included,
            when: when?,
            versions,
            outcome: outcome?,
            at,
            matches,
            reason: reason?.value,
            issue,
            review_by,
            advise,
        })
    }

    /// `versions`: `client.COMPONENT` → requirement.
    fn versions(&self, sink: &mut Sink, node: &Node) -> IndexMap<String, semver::VersionReq> {
        let mut versions = IndexMap::new();
        for entry in sink.entries(node, "`versions`").unwrap_or_default() {
            self.component(sink, &entry.key, entry.span);
            let Some(text) = sink.text(&entry.value, "a version requirement") else { continue };
            match semver::VersionReq::parse(&text.value) {
                Ok(requirement) => {
                    versions.insert(entry.key.clone(), requirement);
                }
                Err(error) => {
                    let message = format!("`{}` is no version requirement: {error}", short(&text.value));
                    sink.error(
                        "bad-version",
                        text.span,
                        message,
                        "not understood",
                        "write `\"<=1.85.1\"`, `\">=1.80, <1.90\"` or `\"=1.85.1\"`",
                    );
                }
            }
        }
        versions
    }

    fn component(&self, sink: &mut Sink, key: &str, span: Span) {
        let Some((role @ ("client" | "server"), component)) = key.split_once('.') else {
            let message = format!("`{}` names no component of a role", short(key));
            sink.error(
                "bad-version",
                span,
                message,
                "whose?",
                "write `client.COMPONENT` or `server.COMPONENT`, such as `client.grpcio`; `self` is the peer's own",
            );
            return;
        };
        let declared = self.peers.values().flat_map(|peer| peer.versions.keys()).map(String::as_str);
        let known: Vec<&str> = declared.chain(COMPONENTS.iter().copied()).collect();
        if self.incomplete || component == "self" || known.contains(&component) {
            return;
        }
        // A driver may tell more components than are declared, so this is no error.
        sink.push(
            Diagnostic::warning("unknown-component", format!("no peer declares the component `{}`", short(component)))
                .at(span, format!("only a driver's own word can make this rule about {role}s hold"))
                .help(sink.suggest(component, "components", known)),
        );
    }
}

fn outcome(sink: &mut Sink, fields: &Fields<'_>) -> Option<RuleOutcome> {
    let node = fields.require(sink, "outcome", "one of failed, [failed, passed], not-effective, unsupported");
    let fact = fields.get(sink, "fact").and_then(|node| fact(sink, node));
    let node = node?;
    let outcome = if let Kind::List(items) = &node.kind {
        let words: Vec<_> =
            items.iter().filter_map(|i| sink.word(i, "an outcome of the list", &["failed", "passed"])).collect();
        if words.len() < items.len() {
            return None;
        }
        if !(words.contains(&"failed") && words.contains(&"passed") && words.len() == 2) {
            sink.error(
                "unknown-value",
                node.span,
                "the only list of outcomes is `[failed, passed]`",
                "not this one",
                "for one outcome write it without brackets",
            );
            return None;
        }
        RuleOutcome::FailedOrPassed
    } else {
        match sink.word(node, "`outcome`", &["failed", "not-effective", "unsupported"])? {
            "not-effective" => {
                if fields.entry("fact").is_none() {
                    let help = "name the axis that is not honoured: `fact: key`";
                    sink.error(
                        "missing-key",
                        fields.span,
                        "`outcome: not-effective` needs `fact`",
                        "no `fact` in it",
                        help,
                    );
                }
                RuleOutcome::NotEffective { fact: fact? }
            }
            "unsupported" => RuleOutcome::Unsupported,
            _ => RuleOutcome::Failed,
        }
    };
    if let (Some(entry), false) = (fields.entry("fact"), matches!(outcome, RuleOutcome::NotEffective { .. })) {
        sink.error(
            "useless-key",
            entry.span,
            "`fact` goes with `outcome: not-effective`",
            "without meaning here",
            "remove it",
        );
    }
    Some(outcome)
}

/// A fact whose effective value is observed.
fn fact(sink: &mut Sink, node: &Node) -> Option<String> {
    let text: Spanned<String> = sink.text(node, "`fact`")?;
    let known: Vec<&str> = axis::table().iter().filter_map(|def| def.fact).chain(["protocol"]).collect();
    if known.contains(&text.value.as_str()) {
        return Some(text.value);
    }
    let message = format!("unknown fact `{}`", short(&text.value));
    sink.error("unknown-fact", text.span, message, "not observed", &sink.suggest(&text.value, "facts", known));
    None
}

fn phase(sink: &mut Sink, node: &Node) -> Option<Phase> {
    let names: Vec<&'static str> = PHASES.iter().map(|(name, _)| *name).collect();
    let word = sink.word(node, "`at`", &names)?;
    PHASES.iter().find(|(name, _)| *name == word).map(|(_, phase)| *phase)
}

fn matching(sink: &mut Sink, node: &Node) -> Match {
    let mut matches = Match::default();
    let Some(fields) = sink.fields::<schema::Match>(node) else { return matches };
    if let Some(cause) = fields.get(sink, "cause").and_then(|node| sink.text(node, "`cause`")) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        // gRPC's names of codes are segments too: rpc.status.NOT_FOUND.
        let segment = |s: &str| (!s.is_empty() && s.bytes().all(plain)) || CODES.contains(&s);
        if !cause.value.split('.').all(segment) {
            let message = format!("`{}` is no cause code", short(&cause.value));
            sink.error(
                "bad-cause",
                cause.span,
                message,
                "not a code",
                "codes are dotted words, matched by whole segments: tls.rejected.server-cert",
            );
        }
        matches.cause = Some(cause.value);
    }
    if let Some(node) = fields.get(sink, "code") {
        matches.code = sink.codes(node).unwrap_or_default();
    }
    matches.check = fields.get(sink, "check").and_then(|node| sink.text(node, "`check`")).map(|id| id.value);
    if let Some(text) = fields.get(sink, "text").and_then(|node| sink.text(node, "`text`")) {
        sink.regex(&text.value, text.span);
        matches.text = Some(text.value);
    }
    if let Some(alert) = fields.get(sink, "alert").and_then(|node| sink.number(node, "`alert`", 0, 255)) {
        matches.alert = u8::try_from(alert).ok();
    }
    if let Some(node) = fields.get(sink, "exit") {
        let (node, signal) = if matches!(node.kind, Kind::Map(_)) {
            let inner = sink.fields::<schema::SignalExit>(node);
            (inner.and_then(|f| f.require(sink, "signal", "the number of the signal")), true)
        } else {
            (Some(node), false)
        };
        let number = node.and_then(|node| sink.number(node, "`exit`", 0, 255)).and_then(|n| i32::try_from(n).ok());
        matches.exit = number.map(|n| if signal { Exit::Signal(n) } else { Exit::Code(n) });
    }
    matches
}

fn date(sink: &mut Sink, node: &Node) -> Option<String> {
    let text = sink.text(node, "`review_by`")?;
    // ISO 8601 has more ways to write a day; one is enough.
    let plain = text.value.len() == 10 && text.value.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let good = plain && time::Date::parse(&text.value, &time::format_description::well_known::Iso8601::DATE).is_ok();
    if !good {
        let message = format!("`{}` is no date", short(&text.value));
        sink.error("bad-date", text.span, message, "not a date", "write it as YYYY-MM-DD");
    }
    good.then_some(text.value)
}
