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
use crate::journal::{Resumed, RunFolder, Writer, evidence};
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
        if args.files.is_empty() {
            match crate::journal::Reader::open(&folder.events()) {
                Ok(reader) => args.files = reader.header().files.iter().map(PathBuf::from).collect(),
                Err(error) => return invalid(printer, &error.to_string()),
            }
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
    if cases == 0 {
        if args.select.shard.is_some() || args.select.failed_in.is_some() {
            printer.say("note: no case is in this selection, so there is nothing to run");
            return ExitCode::from(exit::OK);
        }
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
    let journal = match open_journal(&args, &selected, cases, settings.jobs, &runs, resumed) {
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

fn open_journal(
    args: &RunArgs,
    selected: &[(Arc<Plan>, Selection)],
    cases: u64,
    jobs: usize,
    runs: &Path,
    resumed: Option<RunFolder>,
) -> Result<Journal, crate::journal::JournalError> {
    let digest = selected.iter().map(|(plan, _)| plan.digest()).collect::<Vec<_>>().join("+");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut header = RunHeader {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        run: String::new(),
        scenarios: selected.iter().map(|(plan, _)| plan.scenario().name.clone()).collect(),
        files: args.files.iter().map(|f| f.to_string_lossy().into_owned()).collect(),
        plan_digest: digest.clone(),
        cases,
        started_unix_ms,
        jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
        selection: select::described(&args.select),
        argv: std::env::args().collect(),
        rules: selected.iter().flat_map(|(plan, _)| rules(plan)).collect(),
        slow_ms: selected
            .iter()
            .map(|(plan, _)| plan.scenario().timeouts.slow.as_millis())
            .min()
            .map_or(0, |ms| u64::try_from(ms).unwrap_or(0)),
        labels: selected.iter().flat_map(|(plan, _)| plan.scenario().labels.clone()).collect(),
    };
    if let Some(folder) = resumed {
        let Resumed { mut writer, finished, .. } = Resumed::open(&folder, &digest)?;
        header.run = folder.name();
        writer.append(&RunEvent::RunStarted(header.clone()))?;
        writer.commit()?;
        let finished = finished.into_iter().map(String::from).collect();
        return Ok(Journal { folder, writer, header, finished });
    }
    let folder = RunFolder::create(runs, started_unix_ms, std::process::id())?;
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
