//! The real binary, a plugin that hides a process, and whoever can be killed: nothing stays.

mod support;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal::{self, SIGINT, SIGKILL};
use nix::unistd::Pid;
use soupscen::process::scratch::Scratch;
use support::{alive, eventually, pid_in, stray};

/// A plugin that never prints its line: the run goes on until it is ended.
const SCENARIO: &str = r#"
soupscen: 1
name: hider
timeouts: { case: 300s, start: 300s, op: 3s, grace: 1s, slow: 300s }
services:
  kv: { service: proto.KV, ops: { get: { method: Get, send: { key: "{{ key }}" }, yields: value } } }
peers:
  rust: { builtin: {} }
  hider: { server: { plugin: { run: ["./plugin"] }, provides: [kv, tls.none, launch.plugin] } }
matrix:
  axes: { client: [rust], server: [hider], service: [kv], launch: [plugin], tls: [none] }
scripts:
  one: { ops: [ { get: { key: a } } ] }
"#;

struct Run {
    guard: Child,
    folder: Scratch,
    processes: Vec<i32>,
}

impl Run {
    fn start() -> Self {
        let folder = Scratch::new().unwrap();
        let stray_file = folder.path().join("stray");
        std::fs::write(folder.path().join("hider.yaml"), SCENARIO).unwrap();
        let plugin = folder.path().join("plugin");
        let script = format!("#!/bin/sh\n{}\necho $$ > {}\nexec sleep 600\n", stray(&stray_file), "plugin-pid");
        std::fs::write(&plugin, script.replace("plugin-pid", &folder.path().join("plugin-pid").to_string_lossy()))
            .unwrap();
        std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let temporary = folder.folder("t").unwrap();
        let guard = Command::new(env!("CARGO_BIN_EXE_soupscen"))
            .args(["run", "hider.yaml"])
            .current_dir(folder.path())
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let plugin_file = folder.path().join("plugin-pid");
        eventually("the plugin runs", || std::fs::read_to_string(&plugin_file).is_ok_and(|text| text.ends_with('\n')));
        let mut run = Self { guard, folder, processes: Vec::new() };
        let below = descendants(run.guard_pid());
        assert!(below.contains(&pid_in(&stray_file)) && below.contains(&pid_in(&plugin_file)));
        assert!(!run.temporary().is_empty());
        run.processes = below;
        run
    }

    fn guard_pid(&self) -> i32 {
        i32::try_from(self.guard.id()).unwrap()
    }

    fn engine(&self) -> i32 {
        let named = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is = |pid: &&i32| parent(**pid) == Some(self.guard_pid()) && named(**pid) != "soupscen-clean\n";
        *self.processes.iter().find(is).unwrap()
    }

    /// What lies in the run's temporary folder.
    fn temporary(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path().join("t")).unwrap().flatten().map(|entry| entry.path()).collect()
    }

    fn nothing_is_left(&self) {
        for pid in &self.processes {
            assert!(!alive(*pid), "{pid} lives");
        }
        assert!(self.temporary().is_empty(), "{:?}", self.temporary());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for pid in self.processes.iter().copied().chain([self.guard_pid()]).filter(|pid| alive(*pid)) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), SIGKILL);
        }
        let _ = self.guard.wait();
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(of: i32) -> Vec<i32> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<i32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(all.iter().copied().filter(|child| parent(*child) == Some(pid)));
        next += 1;
    }
    found.remove(0);
    found
}

fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn the_engine_is_killed() {
    let mut run = Run::start();
    kill(run.engine(), SIGKILL);
    assert_eq!(run.guard.wait().unwrap().signal(), Some(9));
    run.nothing_is_left();
}

#[test]
fn the_guard_is_killed() {
    let mut run = Run::start();
    let engine = run.engine();
    kill(run.guard_pid(), SIGKILL);
    run.guard.wait().unwrap();
    eventually("the engine ends", || !alive(engine));
    // Whoever waited for both of them to go goes last.
    eventually("all of them end", || run.processes.iter().all(|pid| !alive(*pid)));
    run.nothing_is_left();
}

#[test]
fn ctrl_c_ends_in_order() {
    let mut run = Run::start();
    nix::sys::signal::killpg(Pid::from_raw(run.guard_pid()), SIGINT).unwrap();
    assert_eq!(run.guard.wait().unwrap().code(), Some(130));
    run.nothing_is_left();
}
