//! `soupscen run`: plans, journal, reporters and engine put together.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::args::{DebugSide, Evidence, RunArgs};
use super::printer::Printer;
use super::{certificates, exit, select};
use crate::event::{FORMAT, RuleInfo, RunEvent, RunHeader};
use crate::exec::{Debug, Engine, Ground, Settings, Stalled, Stop, Totals};
use crate::journal::{JournalError, Reader, Resumed, RunFolder, Writer, evidence};
use crate::outcome::evidence::Side;
use crate::plan::{Plan, Selection};
use crate::process::{Interrupts, guard, limits};
use crate::report::{self, Live, ReportOptions};

/// Everything that soupscen keeps: builds and runs. `SOUPSCEN_HOME` moves it.
const HOME: &str = ".soupscen";
/// Events on their way to the journal and the reporters.
const EVENT_QUEUE: usize = 4096;
/// Events that are written and told together.
const EVENT_BATCH: usize = 256;

/// Where builds and runs are kept.
pub(super) fn home() -> PathBuf {
    std::env::var_os("SOUPSCEN_HOME").filter(|v| !v.is_empty()).map_or_else(|| PathBuf::from(HOME), PathBuf::from)
}

/// Where builds of peers are kept: `SOUPSCEN_CACHE`, so that several homes can share them, or
/// `builds` of the home.
pub(super) fn builds() -> PathBuf {
    let given = std::env::var_os("SOUPSCEN_CACHE").filter(|v| !v.is_empty());
    given.map_or_else(|| home().join("builds"), PathBuf::from)
}

/// Runs the command under a guard.
pub(super) fn main(args: RunArgs, printer: &Printer) -> ExitCode {
    guard::run_guarded(|| run(args, printer))
}

fn run(mut args: RunArgs, printer: &Printer) -> ExitCode {
    let runs = home().join("runs");
    let mut resumed = None;
    if let Some(name) = &args.resume {
        let folder = match RunFolder::find(&runs, name) {
            Ok(folder) => folder,
            Err(error) => return invalid(printer, &error.to_string()),
        };
        let as_begun = match Reader::open(&folder.events()) {
            Ok(reader) => as_begun(&mut args, reader.header()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = as_begun {
            return invalid(printer, &problem);
        }
        resumed = Some(folder);
    }
    if let Some(case) = &args.debug {
        args.select.cases = vec![case.clone()];
        args.jobs = Some(1);
    }
    let changes = select::Changes { attached: &args.attach, sets: &args.set, patient: args.debug.is_some() };
    let Some(plans) = select::load(&args.files, args.strict_rules, &changes, printer) else {
        return ExitCode::from(exit::INVALID);
    };
    // All of them, so that everything is said at once.
    if plans.iter().filter(|plan| !certificates::usable(plan, printer)).count() > 0 {
        return ExitCode::from(exit::INVALID);
    }
    let mut selected = Vec::new();
    let mut cases = 0;
    for plan in plans {
        let Some(selection) = select::selection(&args.select, &plan, printer) else {
            return ExitCode::from(exit::INVALID);
        };
        cases += plan.count(&selection).selected;
        selected.push((plan, selection));
    }
    if let Some(case) = args.debug.as_ref().filter(|_| cases > 1) {
        let text = format!("`--debug {case}` means {cases} cases; `soupscen plan --json` tells the id of each");
        return invalid(printer, &text);
    }
    if let Some(problem) = select::unknown_red(&args.select, &selected) {
        printer.error(&problem);
        return ExitCode::from(exit::NOTHING);
    }
    if cases == 0 && !select::may_be_empty(&selected) {
        printer.error("no case is selected; `soupscen plan` lists the cases of a scenario");
        return ExitCode::from(exit::NOTHING);
    }
    let options = ReportOptions {
        junit: args.outputs.junit.clone(),
        json: args.outputs.json.clone(),
        github: args.outputs.github,
        verbose: args.verbose,
        colour: printer.colour_stdout(),
    };
    // Before anything is written: a run that cannot be reported leaves no folder behind.
    if let Err(errors) = report::check_places(&options) {
        for error in &errors {
            printer.error(&error.to_string());
        }
        return ExitCode::from(exit::INVALID);
    }
    let mut header = head(&args, &selected, cases);
    if cases == 0 {
        printer.say("note: no case is in this selection, so there is nothing to run");
        let errors = report::tell_nothing(&options, &header);
        for error in &errors {
            printer.error(&error.to_string());
        }
        return ExitCode::from(if errors.is_empty() { exit::OK } else { exit::ERRORED });
    }
    let mut settings = settings(&args);
    match settings.fit(args.jobs.map_or(settings.jobs, usize::from), limits::raise_descriptors()) {
        Ok(note) => note.iter().for_each(|note| printer.say(&format!("note: {note}"))),
        Err(error) => return invalid(printer, &error),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return invalid(printer, &format!("the async runtime cannot be started: {error}")),
    };
    // Before the journal: a run that has one is always stopped in order.
    let interrupts = {
        let _context = runtime.enter();
        Interrupts::listen()
    };
    let ground = match Ground::prepare() {
        Ok(ground) => ground,
        Err(error) => return invalid(printer, &error.to_string()),
    };
    header.jobs = u32::try_from(settings.jobs).unwrap_or(u32::MAX);
    let journal = match open_journal(header, &runs, resumed) {
        Ok(journal) => journal,
        Err(error) => return invalid(printer, &error.to_string()),
    };
    settings.finished.clone_from(&journal.finished);
    let run = Run { plans: selected, settings, ground, journal, interrupts: interrupts.ok(), options };
    let status = runtime.block_on(run.drive(printer));
    // Blocking threads of the runtime (a name look-up, say) do not hold the end up.
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// A run is gone on with as it was begun: flags that are not given are as they were, and those that
/// are must be so too.
fn as_begun(args: &mut RunArgs, head: &RunHeader) -> Result<(), String> {
    if args.files.is_empty() {
        args.files = head.files.iter().map(PathBuf::from).collect();
    }
    let begun: Vec<_> = head.selection.iter().chain(&head.changes).cloned().collect();
    let given = [select::described(&args.select), changes(args)].concat();
    if given.is_empty() {
        return begun.iter().try_for_each(|flag| args.restore(flag));
    }
    if given == begun {
        return Ok(());
    }
    let begun = if begun.is_empty() { "without such flags".into() } else { format!("with `{}`", begun.join(" ")) };
    let given = given.join(" ");
    Err(format!("--resume: this run was begun {begun}; leave `{given}` out to go on with it, or start a new run"))
}

/// What the command line changes of cases, as typed, for the head of a run.
fn changes(args: &RunArgs) -> Vec<String> {
    let mut words: Vec<_> = args.set.iter().map(|set| format!("--set {set}")).collect();
    words.extend(args.attach.iter().map(|attach| format!("--attach {attach}")));
    words.extend(args.probe_unsupported.then(|| "--probe-unsupported".to_owned()));
    words
}

impl RunArgs {
    /// Takes back what [`select::described`] and [`changes`] gave.
    fn restore(&mut self, flag: &str) -> Result<(), String> {
        let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
        match name {
            "--filter" => self.select.filter = Some(value.into()),
            "--case" => self.select.cases.push(value.into()),
            "--failed-in" => self.select.failed_in = Some(value.into()),
            "--shard" => self.select.shard = Some(value.into()),
            "--set" => self.set.push(value.parse()?),
            "--attach" => self.attach.push(value.parse()?),
            "--probe-unsupported" => self.probe_unsupported = true,
            _ => return Err(format!("--resume: this run was begun with `{flag}`, which is not known here")),
        }
        Ok(())
    }
}

fn invalid(printer: &Printer, text: &str) -> ExitCode {
    printer.error(text);
    ExitCode::from(exit::INVALID)
}

fn settings(args: &RunArgs) -> Settings {
    Settings {
        probe_unsupported: args.probe_unsupported,
        require_peers: args.require_peers,
        fail_fast: args.fail_fast,
        evidence_all: args.evidence == Evidence::All,
        rebuild: args.rebuild,
        peer_log_level: args.peer_log_level.clone(),
        debug: args.debug.is_some().then(|| Debug {
            side: match args.debug_side {
                DebugSide::Client => Side::Client,
                DebugSide::Server => Side::Server,
            },
            tell: Arc::new(tell),
        }),
        ..Settings::default()
    }
}

/// Says what a person is to do, on lines of its own.
fn tell(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "\n{text}\n");
}

struct Journal {
    folder: RunFolder,
    writer: Writer,
    header: RunHeader,
    finished: std::collections::HashSet<String>,
}

/// The head of a run that has no name yet.
fn head(args: &RunArgs, selected: &[(Arc<Plan>, Selection)], cases: u64) -> RunHeader {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    RunHeader {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        run: String::new(),
        scenarios: selected.iter().map(|(plan, _)| plan.scenario().name.clone()).collect(),
        files: args.files.iter().map(|f| f.to_string_lossy().into_owned()).collect(),
        plan_digest: selected.iter().map(|(plan, _)| plan.digest()).collect::<Vec<_>>().join("+"),
        cases,
        started_unix_ms,
        jobs: 0,
        selection: select::described(&args.select),
        changes: changes(args).into(),
        argv: std::env::args().collect(),
        rules: selected.iter().flat_map(|(plan, _)| rules(plan)).collect(),
        slow_ms: selected
            .iter()
            .map(|(plan, _)| plan.scenario().timeouts.slow.as_millis())
            .min()
            .map_or(0, |ms| u64::try_from(ms).unwrap_or(0)),
        labels: selected.iter().flat_map(|(plan, _)| plan.scenario().labels.clone()).collect(),
    }
}

fn open_journal(mut header: RunHeader, runs: &Path, resumed: Option<RunFolder>) -> Result<Journal, JournalError> {
    if let Some(folder) = resumed {
        let Resumed { mut writer, finished, header: begun } = Resumed::open(&folder, &header.plan_digest)?;
        if begun.cases != header.cases {
            return Err(JournalError::OtherCases { path: folder.events(), was: begun.cases, is: header.cases });
        }
        header.run = folder.name();
        writer.append(&RunEvent::RunStarted(header.clone()))?;
        writer.commit()?;
        let finished = finished.into_iter().map(String::from).collect();
        return Ok(Journal { folder, writer, header, finished });
    }
    let folder = RunFolder::create(runs, header.started_unix_ms, std::process::id())?;
    header.run = folder.name();
    let writer = Writer::create(&folder, &header)?;
    Ok(Journal { folder, writer, header, finished: std::collections::HashSet::new() })
}

fn rules(plan: &Plan) -> impl Iterator<Item = (String, RuleInfo)> + '_ {
    let scenario = plan.scenario();
    scenario.rules.iter().map(|rule| {
        let info = RuleInfo {
            reason: rule.reason.clone(),
            issue: rule.issue.clone(),
            advise: rule.advise.clone(),
            review_by: rule.review_by.clone(),
            place: scenario.sources.place(rule.span),
        };
        (rule.id.clone(), info)
    })
}

/// Everything that a run needs, in place.
struct Run {
    plans: Vec<(Arc<Plan>, Selection)>,
    settings: Settings,
    ground: Ground,
    journal: Journal,
    interrupts: Option<Interrupts>,
    options: ReportOptions,
}

impl Run {
    /// Runs the engine, with the journal and the reporters on a thread of their own.
    async fn drive(self, printer: &Printer) -> u8 {
        let started = Instant::now();
        let Self { plans, settings, ground, journal, interrupts, options } = self;
        let Journal { folder, writer, header, .. } = journal;
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let (stop_tx, stop) = watch::channel(Stop::No);
        let stalled = Stalled::default();
        let reporting = {
            let (folder, stalled) = (folder.clone(), stalled.clone());
            std::thread::Builder::new()
                .name("reports".into())
                .spawn(move || report_all(queue, writer, &header, &folder, (&options, &stalled)))
        };
        let reporting = match reporting {
            Ok(reporting) => reporting,
            Err(error) => {
                printer.error(&format!("the reporting thread cannot be started: {error}"));
                return exit::INVALID;
            }
        };
        let signals = tokio::spawn(watch_signals(interrupts, stop_tx));
        let engine = Engine { plans, ground, settings, cache: builds(), events: events.clone(), stop, stalled };
        let ended = engine.run().await;
        signals.abort();
        let broken = ended.as_ref().err().map(|error| printer.error(&error.to_string())).is_some();
        let totals = ended.unwrap_or(Totals { interrupted: true, ..Totals::default() });
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = events.send(RunEvent::RunFinished { interrupted: totals.interrupted, elapsed_ms }).await;
        drop(events);
        if let Ok(Ok(status)) = tokio::task::spawn_blocking(move || reporting.join()).await {
            if broken { exit::ERRORED } else { status }
        } else {
            printer.error("the reports could not be finished");
            exit::ERRORED
        }
    }
}

/// The reporting thread: the journal first, since what people are told of has to survive us.
fn report_all(
    mut queue: mpsc::Receiver<RunEvent>,
    mut writer: Writer,
    header: &RunHeader,
    folder: &RunFolder,
    (options, stalled): (&ReportOptions, &Stalled),
) -> u8 {
    let mut live = Live::start(options, header, folder);
    let mut batch = Vec::with_capacity(EVENT_BATCH);
    let (mut folders, mut over) = (0, false);
    while !over && queue.blocking_recv_many(&mut batch, EVENT_BATCH) > 0 {
        if guard::is_ending() {
            // Everything is being killed, and cases fail of it: they have not come to a verdict.
            batch.clear();
            continue;
        }
        if let Err(error) = keep_evidence(folder, &mut batch, &mut folders) {
            live.trouble(&error);
        }
        let written = batch.iter().try_for_each(|event| writer.append(event)).and_then(|()| writer.commit());
        if let Err(error) = written {
            live.trouble(&error.to_string());
        }
        for event in batch.drain(..) {
            live.event(&event);
            over |= matches!(event, RunEvent::RunFinished { .. });
        }
    }
    drop(writer);
    let status = live.finish();
    if stalled.is() {
        // Nobody else can: the engine stands still. The guard ends what is below it. The status is
        // that of any run that was stopped, as a later report of its journal gives it.
        guard::end_engine(status);
    }
    status
}

/// Gives each red case a folder of evidence, up to a bound; after a failure no more are tried.
fn keep_evidence(run: &RunFolder, batch: &mut [RunEvent], folders: &mut u64) -> Result<(), String> {
    for event in batch {
        let RunEvent::CaseFinished(record) = event else { continue };
        if record.attempts.is_empty() || *folders >= evidence::FOLDERS || !record.verdict().is_red() {
            continue;
        }
        *folders += 1;
        if let Err(error) = evidence::write(run, record) {
            *folders = evidence::FOLDERS;
            let place = run.evidence();
            return Err(format!("no evidence can be kept in `{}`: {error}; it is in the journal", place.display()));
        }
    }
    Ok(())
}

/// The first wish to end (Ctrl-C, SIGTERM, SIGHUP) stops in order, the second at once.
async fn watch_signals(interrupts: Option<Interrupts>, stop: watch::Sender<Stop>) {
    let Some(mut interrupts) = interrupts else {
        // Signals then end the process as they would any; the run still holds the other end.
        return std::future::pending().await;
    };
    for how in [Stop::InOrder, Stop::AtOnce] {
        interrupts.next().await;
        if stop.send(how).is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}
