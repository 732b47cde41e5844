//! `--debug`: everything but one side is up, and the printed commands start that one.

#[path = "support/run.rs"]
mod run;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use run::{Place, SOUPSCEN};

/// A tool and a server program, both soupscen's own command line.
const PEERS: &str = r#"
  tool:
    client:
      exec:
        env: { MARK: "it's $HOME" }
        ops:
          put:
            run: [SOUPSCEN, call, --server, "{{ server.address }}", { when: tls == mutual, args: [--tls, mutual, --ca, "{{ tls.ca }}", --cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }, kv.put, "key={{ key }}", "value={{ value }}"]
            patterns: [{ exit: 0, ok: true }]
          get:
            run: [SOUPSCEN, call, --server, "{{ server.address }}", { when: tls == mutual, args: [--tls, mutual, --ca, "{{ tls.ca }}", --cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }, kv.get, "key={{ key }}"]
            patterns: [{ exit: 0, stdout: "(?s)^(.*)\n$", value: $1 }]
      provides: [kv, launch.direct, tls.*]
  program:
    server:
      exec:
        run: [SOUPSCEN, serve, kv, "--address=127.0.0.1:{{ port }}", { when: tls == mutual, args: [--tls, mutual, --ca, "{{ tls.ca }}", --cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }]
      provides: [kv, tls.none, tls.mutual, "key.*"]
  driven: { server: { driver: { run: [no-such-driver] }, provides: [kv, tls.*] } }
matrix:
  axes: { client: [rust, tool], server: [rust, program, driven], launch: [direct, plugin], tls: [none, mutual, auto] }
scripts:
  put-get:
    ops:
      - put: { key: a, value: "it's $HOME" }
      - get: { key: a }
        expect: { value: "it's $HOME" }
"#;

/// A run under `--debug`, and the commands that it printed.
struct Debugged {
    child: Child,
    commands: Vec<String>,
    rest: BufReader<std::process::ChildStdout>,
}

impl Debugged {
    fn start(place: &Place, case: &str, side: &str) -> Self {
        let text = format!("soupscen: 1\nname: debug\npeers:\n  rust: {{ builtin: {{}} }}{PEERS}");
        place.write("debug.yaml", &text.replace("SOUPSCEN", SOUPSCEN));
        let mut command = place.soupscen();
        command.args(["run", "debug.yaml", "--debug", case, "--debug-side", side]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut rest = BufReader::new(child.stdout.take().unwrap());
        let mut commands = Vec::new();
        let mut line = String::new();
        while !line.contains("Ctrl-C ends") {
            line.clear();
            if rest.read_line(&mut line).unwrap() == 0 {
                let status = child.wait().unwrap();
                panic!("it ended with {status} after {commands:?}");
            }
            let command = line.strip_prefix("  ").filter(|command| !command.starts_with(['#', ' ']));
            commands.extend(command.map(|command| command.trim_end().to_owned()));
        }
        Self { child, commands, rest }
    }

    /// Pastes a command into a shell.
    fn paste(&self, at: usize) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &self.commands[at]]).env("BASIC_PLUGIN", "").stdin(Stdio::null());
        command
    }

    fn printed(&self, at: usize) -> String {
        let output = self.paste(at).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.commands[at]);
        String::from_utf8(output.stdout).unwrap()
    }

    fn interrupt(mut self, place: &Place) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(130));
        assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
        assert!(place.processes().is_empty(), "{:?}", place.processes());
    }
}

#[test]
fn clients_are_started_by_hand_until_ctrl_c() {
    for (client, server) in [("tool", "program"), ("rust", "rust")] {
        let place = Place::new();
        let case = format!("debug/put-get[client={client},server={server},launch=direct,tls=mutual]");
        let debugged = Debugged::start(&place, &case, "client");
        assert_eq!(debugged.commands.len(), 2);
        assert_eq!(debugged.commands[0].contains("MARK='it'"), client == "tool", "{:?}", debugged.commands);
        assert_eq!(debugged.printed(0), "");
        assert_eq!(debugged.printed(1), "it's $HOME\n");
        debugged.interrupt(&place);
    }
}

#[test]
fn a_server_is_started_by_hand_and_the_case_goes_on() {
    for server in ["program", "rust"] {
        let place = Place::new();
        let case = format!("debug/put-get[client=tool,server={server},launch=direct,tls=mutual]");
        let mut debugged = Debugged::start(&place, &case, "server");
        assert_eq!(debugged.commands.len(), 1);
        // Shell and server are a group, and end together.
        let mut shell = Command::new("sh");
        shell.args(["-c", &debugged.commands[0]]).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut by_hand = shell.spawn().unwrap();
        let mut said = String::new();
        debugged.rest.read_to_string(&mut said).unwrap();
        assert_eq!(debugged.child.wait().unwrap().code(), Some(0), "{said}");
        assert!(said.contains("1 passed"), "{said}");
        killpg(Pid::from_raw(by_hand.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        by_hand.wait().unwrap();
        assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
    }
}

#[test]
fn a_plugin_is_started_through_the_path_that_is_told() {
    let place = Place::new();
    let debugged = Debugged::start(&place, "debug/put-get[client=rust,server=rust,launch=plugin,tls=auto]", "client");
    assert!(debugged.commands[0].ends_with("/server"), "{:?}", debugged.commands);
    assert_eq!(debugged.printed(1), "");
    assert_eq!(debugged.printed(2), "it's $HOME\n");
    // The plugin alone prints its line.
    assert!(debugged.commands[3].starts_with("BASIC_PLUGIN=hello "), "{:?}", debugged.commands);
    debugged.interrupt(&place);
}

#[test]
fn what_cannot_be_debugged_is_said() {
    let place = Place::new();
    let text = format!("soupscen: 1\nname: debug\npeers:\n  rust: {{ builtin: {{}} }}{PEERS}");
    place.write("debug.yaml", &text.replace("SOUPSCEN", SOUPSCEN));
    let run = |arguments: &[&str]| place.run(["run", "debug.yaml"].iter().chain(arguments));
    run(&["--debug", "debug/put-get*"]).exits(2).says("cases; `soupscen plan --json`");
    run(&["--debug", "nope"]).exits(4).says("no case is selected");
    run(&["--debug-side", "server"]).exits(2).says("--debug");
    let driven = "debug/put-get[client=rust,server=driven,launch=direct,tls=none]";
    run(&["--debug", driven, "--debug-side", "server"]).exits(3).says("--attach driven=HOST:PORT");
}
