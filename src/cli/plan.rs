//! What `soupscen plan` writes: a list of cases with what is expected of them, counts, JSON lines,
//! or the origin of one case. L6: reads `plan`; arguments and exit statuses are decided by
//! `select`. Cases are written as they are found, so `soupscen plan … | head` ends at once and
//! memory does not grow with their number.

use std::collections::BTreeMap;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::diag::Place;
use crate::outcome::Expected;
use crate::plan::{
    self, Case, Counts, Disposition, Exclusion, Lacking, Missing, OnlyReported, Plan, RemoveKind, Selection, Why,
};
use crate::scenario::model::{ConnectDef, Op, Rule, RuleOutcome, Script};

/// Version of the JSON lines.
pub const FORMAT: u32 = 1;

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// A line per case, then counts and exclusions.
    List,
    /// Counts and exclusions only.
    Count,
    /// A [`PlanLine`] per line: first the plan, then its cases.
    Json,
    /// Everything about the cases that a glob matches on id, key or slug, or about the row with
    /// this id that is no case.
    Why(String),
}

/// Writes one plan, and says how many cases it was about.
///
/// # Errors
/// What writing gives, also when the reader has closed its end (`| head`).
pub fn print(plan: &Plan, selection: &Selection, style: &Style, colour: bool, out: &mut dyn Write) -> io::Result<u64> {
    // Cases are many and short: one system call for each would take most of the time.
    let mut out = io::BufWriter::new(out);
    let paint = Paint { colour };
    let cases = match style {
        Style::List => list(&mut out, plan, selection, paint)?,
        Style::Count => {
            summary(&mut out, plan, selection)?;
            plan.count(selection).selected
        }
        Style::Json => json(&mut out, plan, selection)?,
        Style::Why(pattern) => why(&mut out, plan, selection, pattern, paint)?,
    };
    out.flush()?;
    Ok(cases)
}

/// Colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn expectation(self, planned: &Planned) -> String {
        let text = in_words(planned);
        let sign = match planned {
            Planned::Passed => "32",
            Planned::Known { .. } => "33",
            Planned::Unsupported { .. } => "2",
        };
        if self.colour { format!("\x1b[{sign}m{text}\x1b[0m") } else { text }
    }

    fn id(self, id: &str) -> String {
        if self.colour { format!("\x1b[1m{id}\x1b[0m") } else { id.to_owned() }
    }
}

/// What is expected of a case before the versions of its peers are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "expected")]
pub enum Planned {
    /// That it passes.
    Passed,
    /// What a rule says; it passes where the versions are others.
    Known {
        /// The rules, which all say the same unless their versions exclude each other.
        rules: Vec<PlannedRule>,
    },
    /// It is not executed.
    Unsupported {
        /// Missing capabilities.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<Missing>,
        /// Rules that say so.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rules: Vec<PlannedRule>,
    },
}

/// A rule that is about a planned case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedRule {
    /// Its id.
    pub rule: String,
    /// `failed at tls`, `not-effective key`.
    pub outcome: String,
    /// Component → requirement; outside it is void.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// One line of JSON.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PlanLine {
    /// The plan as a whole; the first line.
    Plan {
        /// [`FORMAT`].
        format: u32,
        /// Name of the scenario.
        scenario: String,
        /// Digest of what makes the cases.
        digest: String,
        /// Of the selected cases.
        counts: Counts,
        /// Why rows are no cases.
        exclusions: Vec<Exclusion>,
        /// The rules, each with how many cases of the whole plan it is about.
        rules: Vec<RuleLine>,
        /// Passing on a retry is not red (`retry.flaky: allow`).
        flaky_allowed: bool,
    },
    /// A selected case.
    Case {
        /// Its position in the plan.
        index: u64,
        /// Its readable label.
        id: String,
        /// Its stable key.
        key: String,
        /// Its storage name.
        slug: String,
        /// Its block, when it has a name.
        #[serde(skip_serializing_if = "Option::is_none")]
        block: Option<String>,
        /// Its script.
        script: String,
        /// Axis → value, without axes that do not apply.
        axes: BTreeMap<String, String>,
        /// Further connections of its script: name → axis → what it asks in place of `axes`.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        connections: BTreeMap<String, BTreeMap<String, String>>,
        /// What is expected of it.
        #[serde(flatten)]
        planned: Planned,
        /// Facts of which a difference is shown and not red.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        only_reported: Vec<OnlyReported>,
    },
}

/// A rule of a plan.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RuleLine {
    /// Its id.
    pub id: String,
    /// How many cases it is about.
    pub cases: u64,
    /// What it expects where it is in force; the verdict follows from it and the observation.
    pub expects: Expected,
    /// Why it is known.
    pub reason: String,
    /// Link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// Where it is written.
    pub place: Place,
}

/// What is expected of a case before the versions of its peers are known.
#[must_use]
pub fn planned(plan: &Plan, case: &Case) -> Planned {
    if let Disposition::Unsupported(Lacking(missing)) = plan.disposition(case) {
        return Planned::Unsupported { missing, rules: Vec::new() };
    }
    let about = plan.rules_for(case);
    let unsupported = about.iter().any(|rule| rule.outcome == RuleOutcome::Unsupported);
    let rules: Vec<PlannedRule> = about.into_iter().map(planned_rule).collect();
    match (rules.is_empty(), unsupported) {
        (true, _) => Planned::Passed,
        (false, true) => Planned::Unsupported { missing: Vec::new(), rules },
        (false, false) => Planned::Known { rules },
    }
}

fn planned_rule(rule: &Rule) -> PlannedRule {
    let versions = rule.versions.iter().map(|(component, requirement)| (component.clone(), requirement.to_string()));
    PlannedRule { rule: rule.id.clone(), outcome: plan::outcome_in_words(rule), versions: versions.collect() }
}

fn list(out: &mut dyn Write, plan: &Plan, selection: &Selection, paint: Paint) -> io::Result<u64> {
    let mut written = 0;
    for case in plan.cases(selection) {
        writeln!(out, "{}  {}", plan.id(&case), paint.expectation(&planned(plan, &case)))?;
        written += 1;
    }
    summary(out, plan, selection)?;
    Ok(written)
}

fn in_words(planned: &Planned) -> String {
    let named = |rules: &[PlannedRule]| {
        let one = |rule: &PlannedRule| {
            let versions = rule.versions.iter().map(|(component, requirement)| format!(", {component} {requirement}"));
            format!("{} ({}{})", rule.outcome, rule.rule, versions.collect::<String>())
        };
        rules.iter().map(one).collect::<Vec<_>>().join(" and ")
    };
    match planned {
        Planned::Passed => "passed".to_owned(),
        Planned::Known { rules } => format!("known: {}", named(rules)),
        Planned::Unsupported { missing, rules } if missing.is_empty() => format!("unsupported: {}", named(rules)),
        Planned::Unsupported { missing, .. } => {
            format!(
                "unsupported: {}",
                missing.iter().map(|missing| missing.reason.as_str()).collect::<Vec<_>>().join("; ")
            )
        }
    }
}

fn summary(out: &mut dyn Write, plan: &Plan, selection: &Selection) -> io::Result<()> {
    let counts = plan.count(selection);
    let Counts { selected, run, unsupported, known } = counts;
    write!(
        out,
        "{}: {selected} {}, {run} to run, {unsupported} unsupported, {known} known",
        plan.scenario().name,
        plural(selected, "case")
    )?;
    let total = plan.count(&Selection::default()).selected;
    if total == selected {
        writeln!(out)?;
    } else {
        writeln!(out, " (selected from {total})")?;
    }
    for exclusion in plan.exclusions() {
        let Exclusion { kind, block, text, reason, place, cases } = exclusion;
        let kind = kind_name(*kind);
        write!(out, "  {cases} left out by {kind}")?;
        if !text.is_empty() {
            write!(out, " `{}`", one_line(text))?;
        }
        if let Some(block) = block {
            write!(out, " of block `{block}`")?;
        }
        if let Some(place) = place {
            write!(out, " ({})", at(place))?;
        }
        writeln!(out, ": {}", one_line(reason))?;
    }
    Ok(())
}

const fn kind_name(kind: RemoveKind) -> &'static str {
    match kind {
        RemoveKind::Meaningless => "the axis table",
        RemoveKind::Exclude => "exclude",
        RemoveKind::Script => "a script's condition",
        RemoveKind::Duplicate => "repetition",
    }
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn at(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

fn json(out: &mut dyn Write, plan: &Plan, selection: &Selection) -> io::Result<u64> {
    let scenario = plan.scenario();
    let rules = plan.rules().map(|(rule, cases)| RuleLine {
        id: rule.id.clone(),
        cases,
        expects: plan::expected_by(rule),
        reason: rule.reason.clone(),
        issue: rule.issue.clone(),
        place: scenario.sources.place(rule.span),
    });
    let head = PlanLine::Plan {
        format: FORMAT,
        scenario: scenario.name.clone(),
        digest: plan.digest(),
        counts: plan.count(selection),
        exclusions: plan.exclusions().to_vec(),
        rules: rules.collect(),
        flaky_allowed: scenario.retry.flaky_allowed,
    };
    line(out, &head)?;
    let mut written = 0;
    for case in plan.cases(selection) {
        let case = PlanLine::Case {
            index: case.index,
            id: plan.id(&case),
            key: plan.key(&case),
            slug: plan.slug(&case),
            block: plan.block(&case).name.clone(),
            script: plan.script(&case).name.clone(),
            axes: plan.axes(&case),
            connections: connections(plan.script(&case)),
            planned: planned(plan, &case),
            only_reported: plan.only_reported(&case),
        };
        line(out, &case)?;
        written += 1;
    }
    Ok(written)
}

fn connections(script: &Script) -> BTreeMap<String, BTreeMap<String, String>> {
    let all = script.all_steps().into_iter().filter_map(|step| match &step.op {
        Op::Connect(connect) => Some(connect),
        _ => None,
    });
    let asked =
        |connect: &ConnectDef| connect.with.iter().map(|(axis, value)| (axis.clone(), (*value).to_owned())).collect();
    all.map(|connect| (connect.name.clone(), asked(connect))).collect()
}

fn line(out: &mut dyn Write, line: &PlanLine) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// Most cases that `--why` tells about.
const MOST: usize = 20;

fn why(out: &mut dyn Write, plan: &Plan, selection: &Selection, pattern: &str, paint: Paint) -> io::Result<u64> {
    let selection = Selection { cases: vec![pattern.to_owned()], ..selection.clone() };
    let mut written = 0;
    for (at, case) in plan.cases(&selection).enumerate() {
        if at == MOST {
            writeln!(out, "… and more: narrow `{pattern}`")?;
            break;
        }
        writeln!(out, "{}  {}", paint.id(&plan.id(&case)), paint.expectation(&planned(plan, &case)))?;
        explain(out, &plan.why(&case))?;
        written += 1;
    }
    if written == 0
        && let Some(why) = plan.why_not(pattern)
    {
        writeln!(out, "{}  no case of the plan", paint.id(&why.id))?;
        explain(out, &why)?;
        written += 1;
    }
    Ok(written)
}

fn explain(out: &mut dyn Write, why: &Why) -> io::Result<()> {
    let place = |place: &Option<Place>| place.as_ref().map(|place| format!(" ({})", at(place))).unwrap_or_default();
    writeln!(out, "  key {}, slug {}", why.key, why.slug)?;
    if let Some(block) = &why.block {
        writeln!(out, "  block `{block}`")?;
    }
    if let Some(include) = &why.include {
        writeln!(out, "  from an include row ({})", at(include))?;
    }
    for axis in &why.axes {
        let applies = axis
            .applies
            .as_ref()
            .map(|condition| format!(", applies where `{}`", one_line(condition)))
            .unwrap_or_default();
        match &axis.value {
            Some(value) => writeln!(out, "  {} = {value}{}{applies}", axis.axis, place(&axis.place))?,
            None => writeln!(out, "  {} does not apply{}{applies}", axis.axis, place(&axis.place))?,
        }
    }
    for constraint in &why.constraints {
        let when =
            if constraint.when.is_empty() { String::new() } else { format!(" `{}`", one_line(&constraint.when)) };
        let kind = kind_name(constraint.kind);
        if constraint.leaves_out {
            writeln!(out, "  left out by {kind}{when}{}: {}", place(&constraint.place), one_line(&constraint.reason))?;
        } else if constraint.kind == RemoveKind::Exclude {
            writeln!(
                out,
                "  not left out by {kind}{when}{}, for want of `{}`",
                place(&constraint.place),
                constraint.unmet.join("`, `")
            )?;
        }
    }
    // A row that is no case asks nobody.
    if let Some(reason) = &why.own_instances {
        writeln!(out, "  isolation: case, since {reason}")?;
    }
    for ask in why.asks.iter().filter(|_| why.disposition.is_some()) {
        let (role, peer, capability) = (ask.role, &ask.peer, &ask.capability);
        match &ask.provided_by {
            Some(own) => writeln!(
                out,
                "  {} asks {role} `{peer}` for `{capability}`: provided by `{own}`{}",
                ask.axis,
                place(&ask.place)
            )?,
            None => writeln!(out, "  {} asks {role} `{peer}` for `{capability}`: not provided", ask.axis)?,
        }
    }
    if let Some(Disposition::Unsupported(lacking)) = &why.disposition {
        for missing in &lacking.0 {
            writeln!(out, "  unsupported: {}", missing.reason)?;
        }
    }
    for rule in &why.rules {
        let versions =
            if rule.versions.is_empty() { String::new() } else { format!(" within {}", rule.versions.join(", ")) };
        writeln!(
            out,
            "  rule `{}` ({}) expects {}{versions} where `{}`: {}",
            rule.id,
            at(&rule.place),
            rule.outcome,
            one_line(&rule.when),
            one_line(&rule.reason)
        )?;
    }
    if why.rules.is_empty() && why.disposition.is_some() {
        writeln!(out, "  no rule is about it")?;
    }
    Ok(())
}
