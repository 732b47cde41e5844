//! `soupscen peers`: what there is of each peer, and what it lacks.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const FILE: &str = r#"soupscen: 1
peers:
  here:
    lang: sh
    versions: { self: "7.1" }
    server: { attach: "127.0.0.1:1", provides: [launch.direct, tls.none, tls.mutual, service.kv] }
  made:
    lang: sh
    build: { run: [cp, made.sh, "{{ output }}/"], inputs: [made.sh] }
    versions: { self: { run: [sh, "{{ output }}/made.sh"] , pattern: 'made (\S+)' } }
    client:
      driver: { run: [sh, "{{ output }}/made.sh"] }
      provides: [launch.direct, service.kv, { capability: "key.*", when: tls != auto }]
  lost:
    build:
      run: [no-such-tool-of-soupscen, --all]
      inputs: [made.sh]
      tools: { no-such-tool-of-soupscen: { version: [--version], install: "apt-get install no-such-tool" } }
    client: { driver: { run: [true] }, provides: [service.kv] }
"#;

fn peers(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soupscen"));
    command.args(["--color", "never", "peers", "peers.yaml"]).args(args).current_dir(folder);
    command.env_remove("SOUPSCEN_CACHE").env("SOUPSCEN_HOME", folder.join("home")).output().expect("soupscen runs")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("peers.yaml"), FILE).expect("the file can be written");
    std::fs::write(folder.path().join("made.sh"), "echo made 3.2\n").expect("the script can be written");
    folder
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn states_versions_and_capabilities_are_told() {
    let folder = folder();
    let before = peers(folder.path(), &[]);
    assert_eq!(before.status.code(), Some(1), "one peer cannot be had");
    let text = stdout(&before);
    for line in [
        "here (sh): needs no build",
        "  versions  self 7.1",
        "  server    attached: launch.direct tls.{none,mutual} service.kv",
        "made (sh): not built yet; `soupscen peers --build` does it, and so does a run",
        "  client    driver: launch.direct service.kv key.*?",
        "lost: cannot be had",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }
    assert!(text.contains("to get it: apt-get install no-such-tool"), "{text}");

    let text = stdout(&peers(folder.path(), &["--build"]));
    assert!(text.contains("made (sh): built\n  versions  self 3.2\n"), "{text}");
    let text = stdout(&peers(folder.path(), &[]));
    assert!(text.contains("made (sh): built\n  versions  self 3.2\n"), "the build is remembered:\n{text}");
    std::fs::write(folder.path().join("made.sh"), "echo made 3.3\n").expect("the script can be written");
    let text = stdout(&peers(folder.path(), &[]));
    assert!(text.contains("made (sh): not built yet"), "its input has changed:\n{text}");
}

#[test]
fn programs_get_json() {
    let folder = folder();
    let text = stdout(&peers(folder.path(), &["--json"]));
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let states: Vec<_> = all.iter().map(|peer| (&peer["peer"], &peer["state"])).collect();
    let wanted = [("here", "needs-no-build"), ("made", "not-built"), ("lost", "missing")];
    assert!(states.iter().zip(wanted).all(|((name, state), w)| *name == w.0 && *state == w.1), "{states:?}");
    assert_eq!(all[1]["roles"]["client"]["provides"][2]["when"], "tls != auto");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let folder = folder();
    std::fs::write(folder.path().join("peers.yaml"), FILE.replace("lang: sh", "lnag: sh")).expect("written");
    let output = peers(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("peers.yaml:4:5") && said.contains("did you mean `lang`"), "{said}");
}

#[test]
fn every_command_finds_peers_in_the_same_places() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, name: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let text =
            format!("soupscen: 1\npeers: {{ {name}: {{ server: {{ attach: '127.0.0.1:1', provides: [] }} }} }}\n");
        std::fs::write(path, text).expect("written");
    };
    write("scenarios/peers/list.yaml", "listed");
    write("fixtures/peers/own/peer.yaml", "own");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soupscen"));
        command.args(["--color", "never"]).args(args).current_dir(folder.path());
        command.env("SOUPSCEN_HOME", folder.path().join("home")).output().expect("soupscen runs")
    };
    let text = stdout(&run(&["peers"]));
    assert!(text.contains("listed: ") && text.contains("own: "), "{text}");
    for name in ["listed", "own"] {
        let output = run(&["driver", "check", "--peer", name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("peer `{name}` is not run by a driver")), "{said}");
        let said = String::from_utf8_lossy(&run(&["serve", "kv", "--peer", name]).stderr).into_owned();
        assert!(said.contains("runs already at 127.0.0.1:1"), "{said}");
    }
    for args in [
        &["driver", "check", "--peer", "none"][..],
        &["serve", "kv", "--peer", "none"],
        &["call", "kv.get", "--peer", "none"],
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("there are: listed, own, rust"), "{said}");
    }
}
