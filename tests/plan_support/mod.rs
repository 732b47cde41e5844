//! Builds small resolved scenarios by hand, for tests and benches of the plan.
#![allow(dead_code, reason = "every test program uses another part of it")]

pub mod recipe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use soupscen::axis;
use soupscen::diag::{SourceId, SourceMap, Span};
use soupscen::filter::{self, Expr};
use soupscen::outcome::{Match, Phase};
use soupscen::plan::Plan;
use soupscen::scenario::model::{
    Affects, Axis, AxisValue, Block, Capability, ClientRole, ClientWay, Command, DirectWay, EffectivePolicy, Exclude,
    Expect, IncludeRow, Isolation, MissingPeers, Op, Peer, PluginWay, Retry, Rule, RuleOutcome, Scenario, Script,
    ServerRole, Service, Step, Timeouts, VersionProbe,
};

/// A scenario in the making; every text that has a place becomes a line of its one file.
pub struct Draft {
    pub scenario: Scenario,
    text: String,
}

impl Draft {
    /// A scenario named `kv` with a service `kv` and one block without axes.
    pub fn new() -> Self {
        let block = Block {
            name: None,
            axes: vec![],
            scripts: vec![],
            exclude: vec![],
            include: vec![],
            isolation: Isolation::Shared,
        };
        let second = Duration::from_secs(1);
        let mut draft = Self {
            scenario: Scenario {
                name: "kv".into(),
                description: None,
                labels: BTreeMap::new(),
                file: PathBuf::from("kv.yaml"),
                sources: Arc::default(),
                vars: serde_json::Map::new(),
                timeouts: Timeouts { case: second, start: second, op: second, grace: second, slow: second },
                retry: Retry { attempts: 1, only: vec![], flaky_allowed: false },
                missing_peers: MissingPeers::Error,
                peers: IndexMap::new(),
                services: IndexMap::new(),
                blocks: vec![block],
                scripts: IndexMap::new(),
                rules: vec![],
            },
            text: String::new(),
        };
        let span = draft.line("services: kv");
        let service = Service {
            name: "kv".into(),
            span,
            service: "proto.KV".into(),
            files: vec![],
            import: vec![],
            ops: IndexMap::new(),
        };
        draft.scenario.services.insert("kv".into(), service);
        draft
    }

    /// Adds a line to the file.
    pub fn line(&mut self, text: &str) -> Span {
        let start = u32::try_from(self.text.len()).unwrap();
        self.text.push_str(text);
        self.text.push('\n');
        Span { source: SourceId(0), start, end: start + u32::try_from(text.len()).unwrap() }
    }

    pub fn expr(&mut self, text: &str) -> Arc<Expr> {
        let span = self.line(text);
        Arc::new(filter::parse(span.source, span.start, text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")))
    }

    fn block_mut(&mut self) -> &mut Block {
        self.scenario.blocks.last_mut().unwrap()
    }

    /// Begins another block.
    pub fn block(&mut self, name: &str) -> &mut Self {
        let scripts = self.block_mut().scripts.clone();
        self.block_mut().name.get_or_insert_with(|| "first".into());
        let block = Block {
            name: Some(name.into()),
            axes: vec![],
            scripts,
            exclude: vec![],
            include: vec![],
            isolation: Isolation::Shared,
        };
        self.scenario.blocks.push(block);
        self
    }

    pub fn value(&mut self, axis: &str, name: &str) -> AxisValue {
        let name = axis::canonical(axis, name).unwrap_or(name);
        let span = self.line(&format!("{axis}: {name}"));
        AxisValue { name: name.into(), facts: BTreeMap::new(), files: None, host: None, means: name.into(), span }
    }

    /// Adds an axis with the conditions of the axis table; peers spring up for clients and servers.
    pub fn axis(&mut self, name: &str, values: &[&str]) -> &mut Self {
        let applies = axis::find(name).and_then(|def| def.applies).map(|text| self.expr(text));
        self.axis_if(name, values, applies)
    }

    pub fn axis_if(&mut self, name: &str, values: &[&str], applies: Option<Arc<Expr>>) -> &mut Self {
        if matches!(name, "client" | "server") {
            for peer in values {
                if !self.scenario.peers.contains_key(*peer) {
                    self.peer(peer, &["*"], &["*"]);
                }
            }
        }
        let span = self.line(&format!("axis {name}"));
        let values = values.iter().map(|value| self.value(name, value)).collect();
        let affects = axis::find(name).map_or(Affects::Call, |def| def.affects);
        let axis = Axis { name: name.into(), values, applies, affects, effective: EffectivePolicy::Require, span };
        self.block_mut().axes.push(axis);
        self
    }

    pub fn capabilities(&mut self, names: &[&str]) -> Vec<Capability> {
        let capability = |name: &&str| {
            let (name, when) = match name.split_once(" when ") {
                Some((name, when)) => (name, Some(self.expr(when))),
                None => (*name, None),
            };
            let span = self.line(name);
            Capability { name: name.into(), when, span }
        };
        names.iter().map(capability).collect()
    }

    /// A peer with both roles and both ways of serving. The fact `lang` is its name up to a `-`.
    pub fn peer(&mut self, name: &str, client: &[&str], server: &[&str]) -> &mut Self {
        let span = self.line(&format!("peer {name}"));
        let command = Command { run: vec![name.into()], env: IndexMap::new(), span };
        let client = ClientRole { way: ClientWay::Builtin, provides: self.capabilities(client) };
        let server = ServerRole {
            plugin: Some(PluginWay::Run(command)),
            rewrite: soupscen::scenario::model::Rewrite::default(),
            direct: Some(DirectWay::Builtin),
            provides: self.capabilities(server),
        };
        let lang = name.split('-').next().unwrap_or(name);
        let peer = Peer {
            name: name.into(),
            span,
            facts: BTreeMap::from([("name".into(), name.into()), ("lang".into(), lang.into())]),
            client: Some(client),
            server: Some(server),
            build: None,
            versions: IndexMap::from([("self".into(), VersionProbe::Fixed("1.0.0".into()))]),
            folder: PathBuf::new(),
            vars: serde_json::Map::new(),
            variant: BTreeMap::new(),
        };
        self.scenario.peers.insert(name.into(), peer);
        self
    }

    /// Adds a script to the scenario and to all blocks.
    pub fn script(&mut self, name: &str, op: Op, when: Option<&str>) -> &mut Self {
        let span = self.line(&format!("script {name}"));
        let when = when.map(|when| self.expr(when));
        let step = Step {
            id: "step".into(),
            op,
            expect: Expect::default(),
            capture: IndexMap::new(),
            checks: vec![],
            on: None,
            span,
        };
        let script = Script {
            name: name.into(),
            span,
            description: None,
            when,
            steps: vec![step],
            needs: Vec::new(),
            isolation: None,
            uses_work: false,
        };
        self.scenario.scripts.insert(name.into(), Arc::new(script));
        for block in &mut self.scenario.blocks {
            block.scripts.push(name.into());
        }
        self
    }

    pub fn scripts(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            self.script(name, Op::Named { name: "put".into(), args: serde_json::Map::new() }, None);
        }
        self
    }

    pub fn exclude(&mut self, when: &str) -> &mut Self {
        let when = self.expr(when);
        let exclude = Exclude { reason: format!("not {}", when.text), span: when.span, when };
        self.block_mut().exclude.push(exclude);
        self
    }

    pub fn include(&mut self, values: &[(&str, &str)]) -> &mut Self {
        let span = self.line("include");
        let values = values.iter().map(|(axis, value)| ((*axis).to_owned(), self.value(axis, value))).collect();
        self.block_mut().include.push(IncludeRow { values, span });
        self
    }

    pub fn rule(&mut self, id: &str, when: &str, outcome: RuleOutcome) -> &mut Rule {
        let span = self.line(&format!("rule {id}"));
        let when = self.expr(when);
        self.scenario.rules.push(Rule {
            id: id.into(),
            span,
            included: false,
            when,
            versions: IndexMap::new(),
            outcome,
            at: None,
            matches: Match::default(),
            reason: format!("reason of {id}"),
            issue: None,
            review_by: None,
            advise: None,
        });
        self.scenario.rules.last_mut().unwrap()
    }

    pub fn failed_at(&mut self, id: &str, when: &str, at: Phase) -> &mut Rule {
        let rule = self.rule(id, when, RuleOutcome::Failed);
        rule.at = Some(at);
        rule
    }

    /// The finished scenario.
    pub fn finish(&self) -> Arc<Scenario> {
        let mut scenario = self.scenario.clone();
        let mut sources = SourceMap::default();
        sources.add("kv.yaml", self.text.as_str());
        scenario.sources = Arc::new(sources);
        if scenario.blocks[0].scripts.is_empty() {
            let mut draft = Self { scenario, text: self.text.clone() };
            draft.scripts(&["put-get"]);
            return draft.finish();
        }
        for block in &mut scenario.blocks {
            if !block.axes.iter().any(|axis| axis.name == "service") {
                let span = Span { source: SourceId(0), start: 0, end: 12 };
                let value = AxisValue {
                    name: "kv".into(),
                    facts: BTreeMap::new(),
                    files: None,
                    host: None,
                    means: "kv".into(),
                    span,
                };
                let axis = Axis {
                    name: "service".into(),
                    values: vec![value],
                    applies: None,
                    affects: Affects::Server,
                    effective: EffectivePolicy::Require,
                    span,
                };
                block.axes.insert(block.axes.len().min(2), axis);
            }
        }
        Arc::new(scenario)
    }

    pub fn plan(&self) -> Plan {
        Plan::new(self.finish(), false).unwrap_or_else(|errors| panic!("{errors:#?}")).0
    }
}
