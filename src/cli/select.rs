//! From files and selection flags to plans and selections; every problem is printed here.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::args::{PlanArgs, SelectArgs};
use super::attach::{self, Attach};
use super::exit;
use super::printer::Printer;
use super::set::{self, Set};
use crate::diag::{Severity, SourceMap};
use crate::filter;
use crate::plan::{Plan, Selection};
use crate::scenario;
use crate::scenario::disk::DiskFiles;
use crate::scenario::model::Timeouts;

/// The budgets of a case of which a person plays a part.
const PATIENCE: Duration = Duration::from_hours(24);

/// What the command line changes of a scenario.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// Servers that run already.
    pub(super) attached: &'a [Attach],
    /// Other values of `vars`.
    pub(super) sets: &'a [Set],
    /// A person plays a part: budgets are endless.
    pub(super) patient: bool,
}

/// Reads and plans every file with these changes; `None` when one of them cannot be used, all
/// problems being printed.
pub(super) fn load(
    files: &[PathBuf],
    strict_rules: bool,
    changes: &Changes<'_>,
    printer: &Printer,
) -> Option<Vec<Arc<Plan>>> {
    let one = |file: &PathBuf| load_one(file, strict_rules, changes, printer);
    let plans: Vec<_> = files.iter().filter_map(one).collect();
    if plans.len() != files.len() {
        return None;
    }
    if let Some(problem) = same_name(files, &plans) {
        printer.error(&problem);
        return None;
    }
    let scenarios = || plans.iter().map(|plan| plan.scenario().as_ref());
    let wrong = attach::unknown(changes.attached, scenarios());
    match wrong.or_else(|| set::unknown(changes.sets, scenarios().map(|scenario| &scenario.vars))) {
        Some(problem) => {
            printer.error(&problem);
            None
        }
        None => Some(plans),
    }
}

/// Two scenarios of one name: keys, ids and folders of evidence begin with it, so their cases could
/// not be told apart.
fn same_name(files: &[PathBuf], plans: &[Arc<Plan>]) -> Option<String> {
    plans.iter().enumerate().find_map(|(number, plan)| {
        let name = &plan.scenario().name;
        let first = plans[..number].iter().position(|other| other.scenario().name == *name)?;
        let (first, second) = (files[first].display(), files[number].display());
        Some(format!("`{first}` and `{second}` are both called `{name}`; give one of them another `name:`"))
    })
}

fn load_one(file: &Path, strict_rules: bool, changes: &Changes<'_>, printer: &Printer) -> Option<Arc<Plan>> {
    let (mut scenario, diagnostics) = match scenario::load(file, &DiskFiles) {
        Ok(loaded) => loaded,
        Err((sources, diagnostics)) => {
            printer.diagnostics(&sources, &diagnostics);
            return None;
        }
    };
    let sources = Arc::clone(&scenario.sources);
    printer.diagnostics(&sources, &diagnostics);
    attach::apply(changes.attached, &mut scenario);
    if let Err(problem) = set::apply(changes.sets, &mut scenario) {
        printer.error(&problem);
        return None;
    }
    if changes.patient {
        let Timeouts { case, start, op, .. } = &mut scenario.timeouts;
        for budget in [case, start, op] {
            *budget = PATIENCE;
        }
        scenario.retry.attempts = 1;
    }
    let planned = Plan::new(Arc::new(scenario), strict_rules);
    let (plan, diagnostics) = match planned {
        Ok((plan, diagnostics)) => (Some(plan), diagnostics),
        Err(diagnostics) => (None, diagnostics),
    };
    printer.diagnostics(&sources, &diagnostics);
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return None;
    }
    plan.map(Arc::new)
}

/// The selection that the flags describe, for one plan; prints what is wrong with it.
pub(super) fn selection(args: &SelectArgs, plan: &Plan, printer: &Printer) -> Option<Selection> {
    let mut selection = Selection { cases: args.cases.clone(), ..Selection::default() };
    if let Some(text) = &args.filter {
        let mut sources = SourceMap::default();
        let source = sources.add("--filter", text.as_str());
        let checked = filter::parse(source, 0, text).and_then(|expr| {
            let problems = expr.check(plan.domain());
            if problems.iter().any(|d| d.severity == Severity::Error) { Err(problems) } else { Ok(expr) }
        });
        match checked {
            Ok(expr) => selection.filter = Some(Arc::new(expr)),
            Err(problems) => {
                printer.diagnostics(&sources, &problems);
                return None;
            }
        }
    }
    if let Some(text) = &args.shard {
        match text.parse() {
            Ok(shard) => selection.shard = Some(shard),
            Err(problem) => {
                printer.error(&format!("--shard: {problem}"));
                return None;
            }
        }
    }
    if let Some(path) = &args.failed_in {
        match crate::report::red_keys(path) {
            Ok(keys) => selection.keys = Some(keys.into_iter().collect::<HashSet<_>>()),
            Err(problem) => {
                printer.error(&format!("--failed-in: {problem}"));
                return None;
            }
        }
    }
    Some(selection)
}

/// The flags as typed, for the head of a run.
pub(super) fn described(args: &SelectArgs) -> Vec<String> {
    let mut words = Vec::new();
    let mut push = |flag: &str, value: &str| words.push(format!("{flag} {value}"));
    args.filter.iter().for_each(|v| push("--filter", v));
    args.cases.iter().for_each(|v| push("--case", v));
    args.failed_in.iter().for_each(|v| push("--failed-in", &v.to_string_lossy()));
    args.shard.iter().for_each(|v| push("--shard", v));
    words
}

/// Whether selections that want no case may: a part of the cases, or those that were red, can be
/// none, but what else is asked for has to be there.
pub(super) fn may_be_empty(selected: &[(Arc<Plan>, Selection)]) -> bool {
    selected.iter().any(|(plan, selection)| {
        let part = selection.shard.is_some() || selection.keys.is_some();
        part && plan.count(&Selection { shard: None, keys: None, ..selection.clone() }).selected > 0
    })
}

/// Keys of `--failed-in` that no plan has; a sentence.
pub(super) fn unknown_red(args: &SelectArgs, selected: &[(Arc<Plan>, Selection)]) -> Option<String> {
    const NAMED: usize = 5;
    let path = args.failed_in.as_ref()?;
    let mut left: BTreeSet<&String> = selected.first()?.1.keys.as_ref()?.iter().collect();
    for (plan, selection) in selected {
        let all = Selection { keys: selection.keys.clone(), ..Selection::default() };
        for case in plan.cases(&all) {
            left.remove(&plan.key(&case));
        }
    }
    if left.is_empty() {
        return None;
    }
    let named: Vec<&str> = left.iter().take(NAMED).map(|key| key.as_str()).collect();
    let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
    Some(format!(
        "--failed-in: `{}` has red cases that are not in the scenario: {}{more}; name the files that it is of, \
         or select with `--case`",
        path.display(),
        named.join(", ")
    ))
}

/// `soupscen plan`.
pub(super) fn plan_main(args: &PlanArgs, printer: &Printer) -> ExitCode {
    let changes = Changes { sets: &args.set, ..Changes::default() };
    let Some(plans) = load(&args.files, args.strict_rules, &changes, printer) else {
        return ExitCode::from(exit::INVALID);
    };
    let mut selected = Vec::new();
    for plan in plans {
        let Some(selection) = selection(&args.select, &plan, printer) else {
            return ExitCode::from(exit::INVALID);
        };
        selected.push((plan, selection));
    }
    if let Some(problem) = unknown_red(&args.select, &selected) {
        printer.error(&problem);
        return ExitCode::from(exit::NOTHING);
    }
    let mut found = false;
    for (plan, selection) in &selected {
        let style = if args.count {
            super::plan::Style::Count
        } else if args.json {
            super::plan::Style::Json
        } else if let Some(case) = &args.why {
            super::plan::Style::Why(case.clone())
        } else {
            super::plan::Style::List
        };
        match super::plan::print(plan, selection, &style, printer.colour_stdout(), &mut std::io::stdout().lock()) {
            Ok(printed) => found |= printed > 0,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::from(exit::OK),
            Err(error) => {
                printer.error(&format!("the plan cannot be printed: {error}"));
                return ExitCode::from(exit::RED);
            }
        }
    }
    match (&args.why, found) {
        (Some(case), false) => {
            printer.error(&format!("no case is called `{case}`; `soupscen plan` lists ids, keys and slugs"));
            ExitCode::from(exit::NOTHING)
        }
        (None, false) if !may_be_empty(&selected) => {
            printer.error("no case is selected");
            ExitCode::from(exit::NOTHING)
        }
        _ => ExitCode::from(exit::OK),
    }
}
