//! `soupscen report RUN…`: any report again, from journals; shards of one run as one. L6.

use std::path::Path;

use crate::journal::{JournalError, RunFolder};
use crate::report::{self, ExitStatus, Printer, Settings, TerminalSettings};

/// What `soupscen report` is asked for.
#[derive(Debug, Clone, Default)]
pub struct ReportCommand {
    /// Runs: a folder, an `events.jsonl`, the name of a run, `latest`. None means `latest`.
    pub runs: Vec<String>,
    /// Which reports to write.
    pub reports: Settings,
    /// How the terminal's report looks; bars are never drawn.
    pub terminal: TerminalSettings,
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    /// What the process ends with.
    pub status: ExitStatus,
    /// What went wrong beside the cases, as sentences.
    pub errors: Vec<String>,
}

/// Tells runs again. The exit status is the one that their verdicts give, judged by this soupscen.
/// `root` is the folder that holds `runs/` (`.soupscen`).
///
/// # Errors
/// When a run is not there, cannot be read, or is of another plan; the exit status is then 2.
pub fn report(command: &ReportCommand, root: &Path, out: &Printer) -> Result<Done, JournalError> {
    let latest = ["latest".to_owned()];
    let names = if command.runs.is_empty() { latest.as_slice() } else { &command.runs };
    let mut folders: Vec<RunFolder> = Vec::new();
    for name in names {
        let folder = RunFolder::find(root, name)?;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let folder = match folders.as_slice() {
        [one] => Some(one.path().to_owned()),
        _ => None,
    };
    let terminal =
        TerminalSettings { progress: report::Progress::Plain, folder: folder.clone(), ..command.terminal.clone() };
    let settings = Settings { folder, ..command.reports.clone() };
    let mut reporters = vec![report::terminal(terminal, out.clone())];
    reporters.extend(report::at_end(&settings));
    let told = report::replay(&folders, &mut reporters)?;
    let errors: Vec<String> = told.errors.iter().map(ToString::to_string).collect();
    let status = told.summary.exit_status(false).with_trouble(!errors.is_empty());
    Ok(Done { status, errors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunEvent;
    use crate::journal::Writer;
    use crate::journal::samples::{attempt, case, done, every_verdict, finished, header, pass};
    use crate::outcome::Expected;

    fn run(root: &Path, events: &[RunEvent]) -> RunFolder {
        let folder = RunFolder::create(root, 1_795_255_872_000, 1).unwrap();
        let mut writer = Writer::create(&folder, &header()).unwrap();
        events.iter().skip(1).for_each(|event| writer.append(event).unwrap());
        folder
    }

    fn quiet() -> Printer {
        Printer::to(Box::new(std::io::sink()))
    }

    #[test]
    fn every_report_can_be_written_again_and_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), &every_verdict());
        let place = |name: &str| root.path().join(name);
        let settings =
            Settings { junit: Some(place("junit.xml")), json: Some(place("results.json")), ..Settings::default() };
        let command = ReportCommand { reports: settings, ..ReportCommand::default() };
        let told = report(&command, root.path(), &quiet()).unwrap();
        assert_eq!((told.status, told.errors.len()), (ExitStatus::Red, 0));
        let read = || ["junit.xml", "results.json"].map(|name| std::fs::read_to_string(place(name)).unwrap());
        let first = read();
        report(&command, root.path(), &quiet()).unwrap();
        assert_eq!(first, read());
        let red = crate::report::red_keys(&place("results.json")).unwrap();
        assert_eq!(red.len(), 6);
    }

    #[test]
    fn shards_are_told_as_one() {
        let root = tempfile::tempdir().unwrap();
        let shard = |name: &str| {
            let passing = done(case(name, Expected::Passed, vec![attempt(pass())]));
            run(root.path(), &[finished(), passing, finished()]).name()
        };
        let runs = vec![shard("a"), shard("b")];
        let junit = root.path().join("junit.xml");
        let reports = Settings { junit: Some(junit.clone()), ..Settings::default() };
        let told = report(&ReportCommand { runs, reports, ..ReportCommand::default() }, root.path(), &quiet()).unwrap();
        assert_eq!(told.status, ExitStatus::Green);
        assert!(std::fs::read_to_string(junit).unwrap().contains("<testsuites name=\"soupscen\" tests=\"2\""));
    }

    #[test]
    fn a_report_that_cannot_be_written_is_told_and_turns_green_into_errored() {
        let root = tempfile::tempdir().unwrap();
        let passing = done(case("a", Expected::Passed, vec![attempt(pass())]));
        run(root.path(), &[finished(), passing, finished()]);
        let reports = Settings { junit: Some("/proc/nothing/x.xml".into()), ..Settings::default() };
        let told = report(&ReportCommand { reports, ..ReportCommand::default() }, root.path(), &quiet()).unwrap();
        assert_eq!(told.status, ExitStatus::Errored);
        assert!(told.errors[0].contains("/proc/nothing/x.xml"), "{:?}", told.errors);
    }

    #[test]
    fn a_run_that_is_not_there_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = report(&ReportCommand::default(), root.path(), &quiet()).unwrap_err().to_string();
        assert!(error.contains("there is no run `latest`") && error.contains("there are no runs yet"), "{error}");
    }
}
