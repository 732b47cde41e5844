//! Runs that lack something: open files, room on the disk, a terminal, a temporary folder, standard
//! descriptors. Each ends with a clear error and the right status, and keeps what was written before.

#[path = "support/run.rs"]
mod run;

use std::process::Command;

use run::{Place, Ran, Results, SOUPSCEN, ran, text};

/// Twelve cases on the built-in peers, as a plugin and direct.
fn scenario(place: &Place) {
    place.write(
        "small.yaml",
        &format!(
            "soupscen: 1
name: small
timeouts: {{ case: 110s, start: 100s, op: 100s, grace: 2s }}
peers: {{ rust: {{ builtin: {{}} }} }}
matrix:
  axes: {{ client: [rust], server: [rust], launch: [plugin, direct], tls: [none], round: [a, b, c, d, e, f] }}
{}",
            run::PUT_GET
        ),
    );
}

const CASES: usize = 12;

fn place() -> Place {
    let place = Place::new();
    scenario(&place);
    place
}

/// Runs the scenario from a shell line, in which `RUN` stands for the command.
fn shell(place: &Place, line: &str) -> Ran {
    let program = place.soupscen();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line.replace("RUN", &format!("{SOUPSCEN} run small.yaml"))]).current_dir(place.path());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    ran(shell)
}

/// The newest run is whole and green.
fn latest_is_whole(place: &Place) {
    place.run(["report", "latest", "--json", "told.json"]).exits(0);
    let results = Results::read(&place.at("told.json")).unwrap();
    assert_eq!(results.counts().get("passed"), Some(&CASES));
    assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
}

/// A run whose journal could not be written to its end: told, and not lost.
fn latest_is_resumed(place: &Place, ran: &Ran) {
    assert!(ran.out.contains("cannot write the journal"), "{ran}");
    let told = place.run(["report", "latest", "--json", "told.json"]).exits(130);
    let kept = Results::read(&place.at("told.json")).unwrap().verdicts();
    assert!(kept.len() < CASES, "nothing was lacking: {told}");
    let resumed = place.run(["run", "--resume", "latest", "--json", "all.json"]).exits(0);
    let all = Results::read(&place.at("all.json")).unwrap();
    assert_eq!((all.cases().len(), all.verdicts().len()), (CASES, CASES), "{resumed}");
    assert!(kept.keys().all(|id| all.verdicts().contains_key(id)));
    resumed.says(&format!("Running {} cases", CASES - kept.len()));
    latest_is_whole(place);
}

#[test]
fn few_open_files_mean_fewer_cases_at_once_and_no_case_is_blamed() {
    let place = place();
    for limit in [64, 80, 128, 256] {
        let ran = shell(&place, &format!("ulimit -n {limit}; exec RUN --jobs 16")).exits(0);
        ran.says("at once instead of 16").says(&format!("only {limit} files open")).says("ulimit -n");
        latest_is_whole(&place);
    }
}

#[test]
fn too_few_open_files_are_told_before_anything_is_begun() {
    for limit in [10, 32, 63] {
        let place = place();
        let ran = shell(&place, &format!("ulimit -n {limit}; exec RUN")).exits(2);
        ran.says(&format!("{limit} files open")).says("ulimit -n");
        assert!(!place.at("home").exists() && place.tmp_is_empty());
    }
}

#[test]
fn programs_have_the_limit_of_open_files_that_soupscen_was_started_with() {
    let place = Place::new();
    let at = place.path().display();
    place.write("plugin.sh", &format!("ulimit -Sn > {at}/limit\nexec {SOUPSCEN} serve kv\n"));
    place.write(
        "small.yaml",
        &format!(
            "soupscen: 1
name: small
peers:
  rust: {{ builtin: {{}} }}
  told: {{ server: {{ plugin: {{ run: [/bin/sh, {at}/plugin.sh] }}, provides: [service.kv, launch.plugin] }} }}
matrix: {{ axes: {{ client: [rust], server: [told], launch: [plugin] }} }}
{}",
            run::PUT_GET
        ),
    );
    shell(&place, "ulimit -Sn 200; exec RUN --jobs 16").exits(0).never_says("instead of");
    assert_eq!(place.read("limit").trim(), "200");
}

#[test]
fn a_journal_that_cannot_grow_is_told_and_the_run_can_be_resumed() {
    let place = place();
    // Units of 512 bytes: the head and some cases fit, and what a peer stores.
    let ran = shell(&place, "ulimit -f 12; exec RUN --jobs 1").exits(3);
    assert!(ran.out.contains("File too large"), "{ran}");
    latest_is_resumed(&place, &ran);
}

/// Runs a shell line with a small file system of its own at `small`; `None` where that is not allowed.
fn with_small_disk(place: &Place, options: &str, line: &str) -> Option<Ran> {
    std::fs::create_dir_all(place.at("small")).unwrap();
    let mount = format!("mount -t tmpfs -o {options} none small");
    let probe = format!("unshare -m sh -c '{mount}' 2>/dev/null || echo no");
    if shell(place, &probe).out.contains("no") {
        eprintln!("left out: no file system can be mounted here");
        return None;
    }
    Some(shell(place, &format!("unshare -m sh -c '{mount} && {line}'")))
}

#[test]
fn a_disk_that_is_full_is_told_and_the_run_can_be_resumed() {
    let place = place();
    // The journal is brought out of the file system before that is gone.
    let line = "SOUPSCEN_HOME=small/home RUN --jobs 1; status=$?; cp -a small/home home; exit $status";
    let Some(ran) = with_small_disk(&place, "size=12k", line) else { return };
    let ran = ran.exits(3);
    assert!(ran.out.contains("No space left"), "{ran}");
    latest_is_resumed(&place, &ran);
}

#[test]
fn a_home_that_is_read_only_is_told_with_a_way_out() {
    let place = place();
    let Some(ran) = with_small_disk(&place, "ro", "SOUPSCEN_HOME=small/home exec RUN") else { return };
    ran.exits(2).says("small/home/runs").says("Read-only").says("set SOUPSCEN_HOME to a folder");
    assert!(place.tmp_is_empty());
    let Some(ran) = with_small_disk(&place, "ro", "TMPDIR=small exec RUN") else { return };
    ran.exits(2).says("small").says("Read-only").says("TMPDIR").never_says("INTERRUPTED");
    assert!(!place.at("home").exists(), "nothing was begun");
}

#[test]
fn results_that_cannot_be_printed_are_told_and_kept() {
    let place = place();
    for reports in ["", "--junit junit.xml --json all.json"] {
        let ran = shell(&place, &format!("exec RUN {reports} >/dev/full")).exits(3);
        ran.says("standard output").says("No space left");
        latest_is_whole(&place);
    }
    assert_eq!(Results::read(&place.at("all.json")).unwrap().cases().len(), CASES);
    shell(&place, &format!("exec {SOUPSCEN} report latest >/dev/full")).exits(3).says("standard output");
    shell(&place, "exec RUN --junit /dev/full").exits(3).says("`/dev/full`").says("No space left");
    latest_is_whole(&place);
}

#[test]
fn closed_standard_descriptors_change_nothing() {
    let place = place();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        shell(&place, &format!("exec RUN {closed}")).exits(0);
        latest_is_whole(&place);
    }
}

#[test]
fn a_reader_that_takes_one_line_ends_nothing() {
    let place = place();
    let line = "{ RUN -v; echo $? >status; } | head -1";
    let ran = shell(&place, line).exits(0);
    assert_eq!(ran.out.lines().count(), 1, "{ran}");
    assert_eq!((place.read("status").trim(), ran.err.as_str()), ("0", ""));
    latest_is_whole(&place);
    // A report was asked for, and nobody has it.
    shell(&place, "{ RUN --junit /dev/stdout; echo $? >status; } | true").exits(0);
    assert_eq!(place.read("status").trim(), "3");
    latest_is_whole(&place);
}

#[test]
fn a_run_needs_no_terminal_home_or_locale() {
    let place = place();
    let mut command = place.soupscen();
    command.args(["run", "small.yaml"]).env_remove("HOME").env_remove("PATH").env("LC_ALL", "C").env("LANG", "C");
    // A session of its own has no terminal.
    let mut session = Command::new("setsid");
    session.arg("--wait").arg(command.get_program()).args(command.get_args()).current_dir(place.path()).env_clear();
    session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", "/usr/bin:/bin");
    ran(session).exits(0);
    latest_is_whole(&place);
}

#[test]
fn a_temporary_folder_is_found_or_its_lack_told_before_the_run() {
    let place = place();
    place.write("file", "");
    for bad in ["file", "nowhere/at/all"] {
        let ran = shell(&place, &format!("TMPDIR={bad} exec RUN")).exits(2);
        ran.says(&format!("/{bad}`")).says("TMPDIR").never_says("INTERRUPTED");
        assert!(!place.at("home").exists(), "nothing was begun");
    }
    // A relative one is meant from here, wherever peers start.
    shell(&place, "TMPDIR=tmp exec RUN").exits(0);
    latest_is_whole(&place);
    // Sockets fit in no path of more than 108 bytes.
    let long = "long/".repeat(30);
    std::fs::create_dir_all(place.at(&long)).unwrap();
    shell(&place, &format!("TMPDIR=$PWD/{long} exec RUN")).exits(0);
    latest_is_whole(&place);
    shell(&place, "unset TMPDIR; exec RUN").exits(0);
    latest_is_whole(&place);
}

#[test]
fn a_missing_peer_is_explained_once() {
    let place = Place::new();
    place.write(
        "small.yaml",
        &format!(
            "soupscen: 1
name: small
peers:
  rust: {{ builtin: {{}} }}
  built:
    build: {{ run: [frobnicate, all], tools: {{ frobnicate: {{ install: cargo install frobnicate }} }} }}
    server: {{ plugin: {{ run: [x] }}, provides: [launch.plugin, service.kv] }}
matrix: {{ axes: {{ client: [rust], server: [built], launch: [plugin], round: [a, b, c] }} }}
{}",
            run::PUT_GET
        ),
    );
    let ran = place.run(["run", "small.yaml", "--require-peers", "--json", "all.json"]).exits(3);
    // When it is found, and at the end for all cases together.
    assert_eq!(ran.out.matches("cargo install frobnicate").count(), 2, "{ran}");
    assert!(ran.out.contains("all 3: in build"), "{ran}");
    for case in Results::read(&place.at("all.json")).unwrap().cases() {
        assert!(text(&run::observation(case)["cause"]["text"]).contains("cargo install frobnicate"), "{case:#}");
    }
}

#[test]
fn no_duration_depends_on_the_wall_clock() {
    // A clock that is set back must not end a case: only the run's name, certificates' validity, the
    // age of builds, times in logs, which server was started last and a random name come from it.
    let allowed = [
        "cli/serving.rs",
        "cli/run.rs",
        "cli/certificates.rs",
        "pki/",
        "peer/build/store.rs",
        "peer/builtin/plugin.rs",
        "peer/builtin/log.rs",
    ];
    let mut folders = vec![std::path::Path::new(run::ROOT).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let code = std::fs::read_to_string(entry.path()).unwrap();
            let path = entry.path().to_string_lossy().into_owned();
            let tells_time = code.contains("SystemTime") || code.contains("now_utc");
            if tells_time && !allowed.iter().any(|part| path.contains(&format!("src/{part}"))) {
                found.push(path);
            }
        }
    }
    assert!(found.is_empty(), "use Instant: {found:?}");
}
