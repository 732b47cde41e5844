//! What `soupscen plan` writes: a list of cases with what is expected of them, counts, one JSON
//! document, or the origin of one case. L6: reads `plan`; arguments and exit statuses are decided
//! by the callers. Cases are written as they are found, so `soupscen plan … | head` ends at once
//! and memory does not grow with their number.

use std::collections::BTreeMap;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::diag::Place;
use crate::plan::{Case, Counts, Disposition, Exclusion, Missing, Plan, RemoveKind, Selection, Why};
use crate::scenario::model::RuleOutcome;

/// Version of the JSON document.
pub const FORMAT: u32 = 1;

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// A line per case, then counts and exclusions.
    List,
    /// Counts only.
    Count,
    /// One JSON document; see [`PlannedCase`] for the cases.
    Json,
    /// Everything about the cases that a pattern (id, key or slug) matches.
    Why(String),
}

/// How writing came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it, about this many cases.
    All(u64),
    /// The reader closed its end (`| head`), which is no error.
    Closed,
}

/// Writes plans, one after the other.
///
/// # Errors
/// What writing gives, but for a reader that has seen enough.
pub fn write(out: &mut dyn Write, plans: &[Plan], selection: &Selection, view: &View) -> io::Result<Written> {
    let result = match view {
        View::List => list(out, plans, selection),
        View::Count => count(out, plans, selection),
        View::Json => json(out, plans, selection),
        View::Why(pattern) => why(out, plans, selection, pattern),
    };
    match result.and_then(|cases| out.flush().map(|()| cases)) {
        Ok(cases) => Ok(Written::All(cases)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::Closed),
        Err(error) => Err(error),
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

/// A case in the JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedCase {
    /// Its position in the plan.
    pub index: u64,
    /// Its readable label.
    pub id: String,
    /// Its stable key.
    pub key: String,
    /// Its storage name.
    pub slug: String,
    /// Its block, when it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// Its script.
    pub script: String,
    /// Axis → value, without axes that do not apply.
    pub axes: BTreeMap<String, String>,
    /// What is expected of it.
    #[serde(flatten)]
    pub planned: Planned,
}

/// What is expected of a case before the versions of its peers are known.
#[must_use]
pub fn planned(case: &Case) -> Planned {
    if let Disposition::Unsupported(missing) = case.disposition() {
        return Planned::Unsupported { missing, rules: Vec::new() };
    }
    let about = case.plan().rules_for(case);
    let unsupported = about.iter().any(|rule| rule.outcome == RuleOutcome::Unsupported);
    let rules: Vec<PlannedRule> = about
        .into_iter()
        .map(|rule| PlannedRule {
            rule: rule.id.clone(),
            outcome: outcome(&rule.outcome, rule.at.map(|phase| format!("{phase:?}").to_lowercase())),
            versions: rule.versions.iter().map(|(component, requirement)| (component.clone(), requirement.to_string())).collect(),
        })
        .collect();
    match (rules.is_empty(), unsupported) {
        (true, _) => Planned::Passed,
        (false, true) => Planned::Unsupported { missing: Vec::new(), rules },
        (false, false) => Planned::Known { rules },
    }
}

fn outcome(outcome: &RuleOutcome, at: Option<String>) -> String {
    let at = at.map(|phase| format!(" at {phase}")).unwrap_or_default();
    match outcome {
        RuleOutcome::Failed => format!("failed{at}"),
        RuleOutcome::FailedOrPassed => format!("failed{at} or passed"),
        RuleOutcome::NotEffective { fact } => format!("not-effective {fact}"),
        RuleOutcome::Unsupported => "unsupported".to_owned(),
    }
}

fn list(out: &mut dyn Write, plans: &[Plan], selection: &Selection) -> io::Result<u64> {
    let mut written = 0;
    for plan in plans {
        for case in plan.cases(selection) {
            writeln!(out, "{}  {}", case.id(), in_words(&planned(&case)))?;
            written += 1;
        }
        summary(out, plan, selection)?;
    }
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
            format!("unsupported: {}", missing.iter().map(|missing| missing.reason.as_str()).collect::<Vec<_>>().join("; "))
        }
    }
}

fn count(out: &mut dyn Write, plans: &[Plan], selection: &Selection) -> io::Result<u64> {
    let mut selected = 0_u64;
    for plan in plans {
        summary(out, plan, selection)?;
        selected = selected.saturating_add(plan.count(selection).selected);
    }
    Ok(selected)
}

fn summary(out: &mut dyn Write, plan: &Plan, selection: &Selection) -> io::Result<()> {
    let counts = plan.count(selection);
    let Counts { selected, run, unsupported, known } = counts;
    write!(out, "{}: {selected} {}, {run} to run, {unsupported} unsupported, {known} known", plan.scenario().name, plural(selected, "case"))?;
    let total = plan.count(&Selection::default()).selected;
    if total == selected { writeln!(out)? } else { writeln!(out, " (selected from {total})")? }
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

/// Writes a document whose lists are longer than what is held in memory.
fn json(out: &mut dyn Write, plans: &[Plan], selection: &Selection) -> io::Result<u64> {
    #[derive(Serialize)]
    struct RuleCount<'a> {
        rule: &'a str,
        cases: u64,
        reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        issue: Option<&'a str>,
        place: Place,
    }
    let mut written = 0;
    write!(out, "{{\"format\":{FORMAT},\"plans\":[")?;
    for (at, plan) in plans.iter().enumerate() {
        let scenario = plan.scenario();
        let rules = plan.rules().map(|(rule, cases)| RuleCount {
            rule: &rule.id,
            cases,
            reason: &rule.reason,
            issue: rule.issue.as_deref(),
            place: scenario.sources.place(rule.span),
        });
        let separator = if at == 0 { "" } else { "," };
        write!(out, "{separator}\n{{\"scenario\":{}", text_of(&scenario.name)?)?;
        write!(out, ",\"digest\":{}", text_of(&plan.digest())?)?;
        write!(out, ",\"counts\":{}", text_of(&plan.count(selection))?)?;
        write!(out, ",\"exclusions\":{}", text_of(plan.exclusions())?)?;
        write!(out, ",\"rules\":{}", text_of(&rules.collect::<Vec<_>>())?)?;
        write!(out, ",\"cases\":[")?;
        for (at, case) in plan.cases(selection).enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(out, "{separator}\n{}", text_of(&planned_case(&case))?)?;
            written += 1;
        }
        write!(out, "]}}")?;
    }
    writeln!(out, "]}}")?;
    Ok(written)
}

fn text_of<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::other)
}

fn planned_case(case: &Case) -> PlannedCase {
    PlannedCase {
        index: case.index(),
        id: case.id(),
        key: case.key(),
        slug: case.slug(),
        block: case.block().name.clone(),
        script: case.script_name().to_owned(),
        axes: case.axes(),
        planned: planned(case),
    }
}

/// Most cases that `--why` tells about.
const MOST: usize = 20;

fn why(out: &mut dyn Write, plans: &[Plan], selection: &Selection, pattern: &str) -> io::Result<u64> {
    let mut written = 0;
    let selection = Selection { cases: vec![pattern.to_owned()], ..selection.clone() };
    for plan in plans {
        for case in plan.cases(&selection).take(MOST + 1) {
            if written == MOST as u64 {
                writeln!(out, "… and more: narrow `{pattern}`")?;
                return Ok(written);
            }
            writeln!(out, "{}: {}", case.id(), in_words(&planned(&case)))?;
            explain(out, &case.why())?;
            written += 1;
        }
    }
    if written == 0 {
        for why in plans.iter().filter_map(|plan| plan.why_not(pattern)) {
            writeln!(out, "{}: no case of the plan", why.id)?;
            explain(out, &why)?;
            written += 1;
        }
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
        let applies = axis.applies.as_ref().map(|condition| format!(", applies where `{}`", one_line(condition))).unwrap_or_default();
        match &axis.value {
            Some(value) => writeln!(out, "  {} = {value}{}{applies}", axis.axis, place(&axis.place))?,
            None => writeln!(out, "  {} does not apply{}{applies}", axis.axis, place(&axis.place))?,
        }
    }
    for constraint in &why.constraints {
        let when = if constraint.when.is_empty() { String::new() } else { format!(" `{}`", one_line(&constraint.when)) };
        let kind = kind_name(constraint.kind);
        if constraint.leaves_out {
            writeln!(out, "  left out by {kind}{when}{}: {}", place(&constraint.place), one_line(&constraint.reason))?;
        } else if constraint.kind == RemoveKind::Exclude {
            writeln!(out, "  not left out by {kind}{when}{}, for want of `{}`", place(&constraint.place), constraint.unmet.join("`, `"))?;
        }
    }
    for ask in &why.asks {
        let (role, peer, capability) = (ask.role, &ask.peer, &ask.capability);
        match &ask.provided_by {
            Some(own) => writeln!(out, "  {} asks {role} `{peer}` for `{capability}`: provided by `{own}`{}", ask.axis, place(&ask.place))?,
            None => writeln!(out, "  {} asks {role} `{peer}` for `{capability}`: not provided", ask.axis)?,
        }
    }
    if let Some(Disposition::Unsupported(missing)) = &why.disposition {
        for missing in missing {
            writeln!(out, "  unsupported: {}", missing.reason)?;
        }
    }
    for rule in &why.rules {
        let versions = if rule.versions.is_empty() { String::new() } else { format!(" within {}", rule.versions.join(", ")) };
        writeln!(out, "  rule `{}` ({}) expects {}{versions} where `{}`: {}", rule.id, at(&rule.place), rule.outcome, one_line(&rule.when), one_line(&rule.reason))?;
    }
    if why.rules.is_empty() && why.disposition.is_some() {
        writeln!(out, "  no rule is about it")?;
    }
    Ok(())
}
