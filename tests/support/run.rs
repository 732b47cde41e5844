//! What tests of the real binary share: a place of their own, runs in it, and reading what a run
//! wrote. Every process gets `TMPDIR` and `SOUPSCEN_HOME` in its place, so that what it leaves
//! behind can be found; builds of the Go and Python peers are shared by all (`SOUPSCEN_CACHE`).

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
/// The project.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// A run that takes longer than this hangs. Only a bound: nothing should come near it.
pub(crate) const HANGS: Duration = Duration::from_secs(150);

/// One put and one get.
pub(crate) const PUT_GET: &str = r#"
scripts:
  put-get:
    ops:
      - put: { key: "{{ case.slug }}", value: v }
      - get: { key: "{{ case.slug }}" }
        expect: { value: v }
"#;

/// A folder of a test's own, removed with it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Short, below /tmp: sockets have to fit in it.
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in("/tmp").unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file; folders on its way are made.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The program, ready to be given arguments.
    pub(crate) fn soupscen(&self) -> Command {
        let mut command = Command::new(SOUPSCEN);
        command
            .current_dir(self.path())
            .env("SOUPSCEN_HOME", self.at("home"))
            .env("SOUPSCEN_CACHE", builds())
            .env("TMPDIR", self.at("tmp"))
            .env("NO_COLOR", "1")
            .env_remove("SOUPSCEN_REQUIRE_PEERS")
            .env_remove("GITHUB_STEP_SUMMARY")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.soupscen();
        command.args(arguments);
        ran(command)
    }

    /// `run FILE --json … ARGUMENTS`, and the results.
    pub(crate) fn results(&self, file: &str, arguments: &[&str]) -> (Ran, Results) {
        let json = self.at("results.json");
        let _ = fs::remove_file(&json);
        let all = ["run", file, "--json", "results.json"].into_iter().chain(arguments.iter().copied());
        let ran = self.run(all);
        let results = Results::read(&json).unwrap_or_else(|e| panic!("no results: {e}\n{ran}"));
        (ran, results)
    }

    /// Everything below a folder of the place, by path.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.at(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                // What goes away while we look is no concern.
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(_) => files.push(entry.path()),
                    Err(_) => {}
                }
            }
        }
        files
    }

    /// Nothing is left in the place's `TMPDIR`.
    pub(crate) fn tmp_is_empty(&self) -> bool {
        fs::read_dir(self.at("tmp")).unwrap().next().is_none()
    }

    /// Processes that have to do with this place, by their arguments or environment.
    pub(crate) fn processes(&self) -> BTreeMap<i32, String> {
        let mark = self.path().to_str().unwrap().as_bytes();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let env = fs::read(entry.path().join("environ")).unwrap_or_default();
            if [&words, &env].iter().any(|text| text.windows(mark.len()).any(|w| w == mark)) {
                found.insert(pid, String::from_utf8_lossy(&words).replace('\0', " "));
            }
        }
        found
    }
}

/// Where peers are built for all tests: where a run in the project's own folder has them.
pub(crate) fn builds() -> PathBuf {
    let given = std::env::var_os("SOUPSCEN_CACHE").filter(|v| !v.is_empty());
    given.map_or_else(|| Path::new(ROOT).join(".soupscen/builds"), PathBuf::from)
}

/// A program that came to its end.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self}"))
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Fails unless it was said, on either stream.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.out.contains(what) || self.err.contains(what), "`{what}` is not in\n{self}");
        self
    }

    /// Fails if it was said, on either stream.
    #[track_caller]
    pub(crate) fn never_says(self, what: &str) -> Self {
        assert!(!self.out.contains(what) && !self.err.contains(what), "`{what}` is in\n{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.out, self.err)
    }
}

/// Runs a command to its end.
pub(crate) fn ran(command: Command) -> Ran {
    Going::start(command).end()
}

/// A program that runs, in a process group of its own as from a terminal. Killed with its group if
/// the test fails.
pub(crate) struct Going {
    child: Child,
    out: Option<std::thread::JoinHandle<String>>,
    err: Option<std::thread::JoinHandle<String>>,
}

impl Going {
    pub(crate) fn start(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let drain = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = from.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = child.stdout.take().map(|out| drain(Box::new(out)));
        let err = child.stderr.take().map(|err| drain(Box::new(err)));
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// A signal to the whole foreground group, as a terminal sends it.
    pub(crate) fn signal_group(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let until = Instant::now() + HANGS;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the program hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |reader: Option<std::thread::JoinHandle<String>>| reader.unwrap().join().unwrap();
        Ran { status, out: text(self.out.take()), err: text(self.err.take()) }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// `results.json`.
pub(crate) struct Results(pub(crate) Value);

impl Results {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map(Self).map_err(|e| e.to_string())
    }

    pub(crate) fn cases(&self) -> &[Value] {
        self.0["cases"].as_array().unwrap()
    }

    /// The only case whose id has all of these in it.
    #[track_caller]
    pub(crate) fn case(&self, parts: &[&str]) -> &Value {
        let matching = |case: &&Value| parts.iter().all(|part| case["id"].as_str().unwrap().contains(part));
        let found: Vec<_> = self.cases().iter().filter(matching).collect();
        let [only] = found.as_slice() else {
            panic!("{} cases have {parts:?} in their ids: {:?}", found.len(), self.verdicts())
        };
        only
    }

    /// id → verdict.
    pub(crate) fn verdicts(&self) -> BTreeMap<String, String> {
        let one = |case: &Value| (text(&case["id"]).to_owned(), text(&case["verdict"]).to_owned());
        self.cases().iter().map(one).collect()
    }

    /// How often each verdict is there.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for verdict in self.verdicts().into_values() {
            *counts.entry(verdict).or_default() += 1;
        }
        counts
    }
}

/// A text of a result.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What was seen in the last attempt.
#[track_caller]
pub(crate) fn observation(case: &Value) -> &Value {
    let attempts = case["attempts"].as_array().unwrap();
    &attempts.last().unwrap_or_else(|| panic!("not executed: {case}"))["observation"]
}

/// What was requested of a fact and what was in force; empty where there is no such.
#[track_caller]
pub(crate) fn fact<'a>(case: &'a Value, name: &str) -> (&'a str, &'a str) {
    let facts = observation(case)["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["fact"] == name).unwrap_or_else(|| panic!("no fact {name}: {case}"));
    let effective = &fact["effective"];
    (text(&fact["requested"]), effective["value"].as_str().unwrap_or_else(|| text(effective)))
}

/// Waits, within reason, for something that no event tells of.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + HANGS;
    while !holds() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether these toolchains are here. Where `SOUPSCEN_REQUIRE_PEERS` is set, a missing one fails the
/// test; otherwise it is said that the test was left out.
pub(crate) fn toolchains(programs: &[&str]) -> bool {
    let here = |program: &&&str| {
        let version = if **program == "go" { "version" } else { "--version" };
        let status = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let missing: Vec<_> = programs.iter().filter(|program| !here(program)).collect();
    if missing.is_empty() {
        return true;
    }
    let required = std::env::var_os("SOUPSCEN_REQUIRE_PEERS").is_some_and(|v| !v.is_empty() && v != "0");
    assert!(!required, "SOUPSCEN_REQUIRE_PEERS is set, and {missing:?} cannot be run");
    eprintln!("left out: {missing:?} cannot be run");
    false
}
