//! No process and no folder of a run outlives it, whoever is killed; and the shim changes nothing
//! but what it is told to. This program plays the engine and the shim itself, hence no harness: a
//! guard must be made before any thread exists.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use soupscen::outcome::Exit;
use soupscen::outcome::evidence::Side;
use soupscen::process::hub::{Composer, Hub, ShimEvent, StartOrder, Ticket, TicketSpec, process_report};
use soupscen::process::scratch::Scratch;
use soupscen::process::{Interrupts, Program, Spawner, dispatch, guard};
use support::{alive, eventually, pid_in, stray};

const ENGINE: &str = "__engine";

fn main() -> ExitCode {
    if let Some(code) = dispatch(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == ENGINE) {
        return guard::run_guarded(|| engine(&arguments[1], Path::new(&arguments[2])));
    }
    let filter = arguments.iter().find(|a| !a.starts_with('-')).map_or("", String::as_str);
    let tests: [(&str, fn()); 19] = [
        ("engine_killed", engine_killed),
        ("guard_killed", guard_killed),
        ("normal_end", normal_end),
        ("engine_panics", engine_panics),
        ("ctrl_c_of_a_terminal", ctrl_c_of_a_terminal),
        ("signal_to_the_guard_is_passed_on", signal_to_the_guard_is_passed_on),
        ("keeper_killed", keeper_killed),
        ("shim_without_hub_changes_nothing", shim_without_hub_changes_nothing),
        ("shim_passes_exit_and_signals_on", shim_passes_exit_and_signals_on),
        ("shim_reports_and_rewrites", shim_reports_and_rewrites),
        ("shim_goes_on_when_nobody_answers", shim_goes_on_when_nobody_answers),
        ("shim_front_killed", shim_front_killed),
        ("shim_plugin_leaves_nothing_behind", shim_plugin_leaves_nothing_behind),
        ("shim_with_a_host_that_never_reads", shim_with_a_host_that_never_reads),
        ("shim_passes_floods_untouched", shim_passes_floods_untouched),
        ("shim_serves_several_starts", shim_serves_several_starts),
        ("shim_cannot_start", shim_cannot_start),
        ("stand_in_runs_what_the_ticket_says", stand_in_runs_what_the_ticket_says),
        ("stand_in_passes_signals_on", stand_in_passes_signals_on),
    ];
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        let started = Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {} ({:?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
        failed += u32::from(!passed);
    }
    println!("process_tree: {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// The engine's part: one program with a stray below, then whatever the mode says.
fn engine(mode: &str, folder: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut interrupts = Interrupts::listen().unwrap();
        let spawner = Spawner::start("tree").unwrap();
        let scratch = Scratch::new().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        let script = format!("{}; exec sleep 600", stray(&folder.join("stray")));
        let program = Program::new(vec!["/bin/sh".into(), "-c".into(), script]);
        let spawned = spawner.spawn(&program).await.unwrap();
        let stray = folder.join("stray");
        eventually("the stray runs", || stray.exists());
        println!("{} {} {}", std::process::id(), spawned.pid, scratch.path().display());
        if ["normal", "panic"].contains(&mode) {
            // Until the test has looked at everything.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        match mode {
            "normal" => ExitCode::from(7),
            "panic" => panic!("on purpose"),
            "keeper-dies" => {
                let exit = spawned.watcher().gone().await;
                println!("{exit:?} {}", alive(pid_in(&stray)));
                ExitCode::SUCCESS
            }
            _ => {
                let signal = interrupts.next().await;
                // One wish must come as one.
                let again = tokio::time::timeout(Duration::from_millis(400), interrupts.next()).await;
                ExitCode::from(if again.is_err() { u8::try_from(128 + signal).unwrap() } else { 1 })
            }
        }
    })
}

struct Run {
    guard: Child,
    out: BufReader<std::process::ChildStdout>,
    engine: i32,
    program: i32,
    scratch: PathBuf,
    folder: Scratch,
}

impl Run {
    fn start(mode: &str) -> Self {
        let folder = Scratch::new().unwrap();
        let mut guard = Command::new(std::env::current_exe().unwrap())
            .args([ENGINE, mode])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(guard.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let engine = words.next().unwrap().parse().unwrap();
        let program = words.next().unwrap().parse().unwrap();
        let scratch = PathBuf::from(words.next().unwrap());
        assert!(scratch.join("file").exists());
        let run = Self { guard, out, engine, program, scratch, folder };
        assert!(alive(run.stray()) && alive(program));
        run
    }

    fn stray(&self) -> i32 {
        pid_in(&self.folder.path().join("stray"))
    }

    fn nothing_is_left(&self) {
        for pid in [self.engine, self.program, self.stray()] {
            assert!(!alive(pid), "{pid} lives");
        }
        assert!(!self.scratch.exists(), "the scratch folder is still there");
    }
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM, SIGUSR1};

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn engine_killed() {
    let mut run = Run::start("wait");
    kill(run.engine, SIGKILL);
    // The guard ends as the engine did, and only once everything is gone.
    assert_eq!(run.guard.wait().unwrap().signal(), Some(9));
    run.nothing_is_left();
}

fn guard_killed() {
    let mut run = Run::start("wait");
    kill(pid_of(&run.guard), SIGKILL);
    run.guard.wait().unwrap();
    eventually("the engine ends", || !alive(run.engine));
    run.nothing_is_left();
}

fn normal_end() {
    let mut run = Run::start("normal");
    drop(run.guard.stdin.take());
    assert_eq!(run.guard.wait().unwrap().code(), Some(7));
    run.nothing_is_left();
}

fn engine_panics() {
    let mut run = Run::start("panic");
    drop(run.guard.stdin.take());
    assert_eq!(run.guard.wait().unwrap().code(), Some(101));
    run.nothing_is_left();
}

fn ctrl_c_of_a_terminal() {
    let mut run = Run::start("wait");
    // A terminal signals the foreground group; the guard, told by a process here, passes it on too.
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid_of(&run.guard)), SIGINT).unwrap();
    assert_eq!(run.guard.wait().unwrap().code(), Some(130));
    run.nothing_is_left();
}

fn signal_to_the_guard_is_passed_on() {
    let mut run = Run::start("wait");
    kill(pid_of(&run.guard), SIGTERM);
    assert_eq!(run.guard.wait().unwrap().code(), Some(143));
    run.nothing_is_left();
}

fn keeper_killed() {
    let mut run = Run::start("keeper-dies");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.program)).unwrap();
    let keeper: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_ne!(keeper, run.engine);
    kill(keeper, SIGKILL);
    let mut line = String::new();
    run.out.read_line(&mut line).unwrap();
    assert_eq!(line, "Signal(9) false\n", "the engine sweeps what a killed keeper leaves");
    assert!(run.guard.wait().unwrap().success());
    run.nothing_is_left();
}

// The shim. This program is the host.

fn host(script: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["__shim", "/bin/sh", "-c", script]).env_remove("SOUPSCEN_SHIM");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

fn with_ticket(script: &str, ticket: &Ticket) -> Command {
    let mut command = Command::new(&ticket.argv_prefix[0]);
    command.args(&ticket.argv_prefix[1..]).args(["/bin/sh", "-c", script]).envs(ticket.env.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

/// Runs a test that needs a hub.
fn hubbed<F: Future<Output = ()>>(spec: TicketSpec, test: impl FnOnce(PathBuf, Ticket) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::new().unwrap();
        let hub = Hub::bind(scratch.path()).unwrap();
        let ticket = hub.ticket(spec).unwrap();
        test(scratch.path().to_owned(), ticket).await;
        drop(hub);
    });
}

async fn exited(ticket: &mut Ticket) -> soupscen::process::hub::PluginExit {
    loop {
        match ticket.events.recv().await.unwrap() {
            ShimEvent::Exited { exited, .. } => return exited,
            ShimEvent::Lost { .. } => panic!("lost"),
            _ => {}
        }
    }
}

fn shim_without_hub_changes_nothing() {
    for address in [None, Some("token@/no/such/socket"), Some("nonsense")] {
        let mut command = host("cat; printf 'a\\0b'; printf '\\377' >&2; env | grep -c SOUPSCEN_SHIM; exit 9");
        if let Some(address) = address {
            command.env("SOUPSCEN_SHIM", address);
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"in\na\0b0\n");
        assert_eq!(output.stderr, b"\xff");
        assert_eq!(output.status.code(), Some(9));
    }
}

fn shim_passes_exit_and_signals_on() {
    let status = host("kill -KILL $$").status().unwrap();
    assert_eq!(status.signal(), Some(9));
    let mut child = host("trap 'echo term; exit 4' TERM; echo ready; while :; do sleep 0.01; done").spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    kill(pid_of(&child), SIGTERM);
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\nterm\n");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    // One that does not handle it dies of it, and so does the front.
    let mut child = host("echo ready; sleep 600").spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    kill(pid_of(&child), SIGTERM);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

fn shim_reports_and_rewrites() {
    let order =
        StartOrder { add_env: vec![("ADDED".into(), "yes".into())], drop_env: vec!["DROPPED".into()], argv: None };
    let spec = TicketSpec { cookie_key: Some("COOKIE".into()), order, composer: None };
    hubbed(spec, |_, mut ticket| async move {
        let script = "echo '1|1|tcp|1.2.3.4:5|grpc'; echo more; echo \"$ADDED${DROPPED-gone}${SOUPSCEN_SHIM-}\"; \
                      for i in 1 2 3; do echo err$i >&2; done; exit 3";
        let mut command = with_ticket(script, &ticket);
        command.env("COOKIE", "x").env("DROPPED", "x").env("PLUGIN_MIN_PORT", "7").env("SECRET", "hidden");
        let child = command.spawn().unwrap();
        let Some(ShimEvent::Started { start: 0, started }) = ticket.events.recv().await else { panic!() };
        assert_eq!(started.argv[0], "/bin/sh");
        assert_eq!(started.cookie_present, Some(true));
        assert_eq!(started.env, [("PLUGIN_MIN_PORT".to_owned(), "7".to_owned())]);
        let Some(ShimEvent::Line { raw, reply, .. }) = ticket.events.recv().await else { panic!() };
        assert_eq!(raw, b"1|1|tcp|1.2.3.4:5|grpc\n");
        reply.send(b"1|1|tcp|5.4.3.2:1|grpc\n".to_vec()).unwrap();
        let exit = exited(&mut ticket).await;
        assert_eq!((exit.exit, exit.asked), (Exit::Code(3), None));
        assert_eq!(exit.stderr_tail, ["err1", "err2", "err3"]);
        assert_eq!(exit.stdout_noise, "more\nyesgone\n");
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "1|1|tcp|5.4.3.2:1|grpc\nmore\nyesgone\n");
        assert_eq!(output.stderr, b"err1\nerr2\nerr3\n");
        assert_eq!(output.status.code(), Some(3));
        let report = process_report(Side::Server, &started, Some(&exit), false);
        assert_eq!((report.exit, report.asked_to_end), (Some(Exit::Code(3)), false));
    });
}

fn shim_goes_on_when_nobody_answers() {
    // A hub that takes the line but does not decide, one that goes away, and one that is mute.
    hubbed(TicketSpec::default(), |_, mut ticket| async move {
        let child = with_ticket("printf unfinished", &ticket).spawn().unwrap();
        assert_eq!(exited(&mut ticket).await.exit, Exit::Code(0), "a dropped reply lets the line go as it is");
        assert_eq!(child.wait_with_output().unwrap().stdout, b"unfinished");
        let child = with_ticket("echo line; sleep 0.1; echo more", &ticket).spawn().unwrap();
        loop {
            if let Some(ShimEvent::Line { reply, .. }) = ticket.events.recv().await {
                drop(ticket);
                drop(reply);
                break;
            }
        }
        assert_eq!(child.wait_with_output().unwrap().stdout, b"line\nmore\n");
    });
    let scratch = Scratch::new().unwrap();
    let socket = scratch.path().join("mute");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let output = host("echo line").env("SOUPSCEN_SHIM", format!("t@{}", socket.display())).output().unwrap();
    assert_eq!(output.stdout, b"line\n");
}

fn shim_front_killed() {
    hubbed(TicketSpec::default(), |folder, mut ticket| async move {
        let file = folder.join("pid");
        let script = format!("{}; echo line; echo words >&2; sleep 600", stray(&file));
        let mut child = with_ticket(&script, &ticket).spawn().unwrap();
        let Some(ShimEvent::Started { started, .. }) = ticket.events.recv().await else { panic!() };
        let Some(ShimEvent::Line { .. }) = ticket.events.recv().await else { panic!() };
        // The whole group of the host's child, as some hosts do.
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid_of(&child)), SIGKILL).unwrap();
        child.wait().unwrap();
        let exit = exited(&mut ticket).await;
        assert_eq!((exit.exit, exit.asked), (Exit::Signal(9), Some(9)));
        assert!(!alive(started.pid) && !alive(pid_in(&file)), "told only when all is gone");
    });
}

fn shim_plugin_leaves_nothing_behind() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("pid");
    let status = host(&format!("{}; exit 6", stray(&file))).status().unwrap();
    assert_eq!(status.code(), Some(6));
    assert!(!alive(pid_in(&file)));
}

fn shim_with_a_host_that_never_reads() {
    hubbed(TicketSpec::default(), |_, mut ticket| async move {
        let script = "echo line; head -c 10000000 /dev/zero >&2 & head -c 10000000 /dev/zero & \
                      trap 'exit 5' TERM; while :; do sleep 0.01; done";
        let mut child = with_ticket(script, &ticket).spawn().unwrap();
        let Some(ShimEvent::Started { .. }) = ticket.events.recv().await else { panic!() };
        let Some(ShimEvent::Line { reply, .. }) = ticket.events.recv().await else { panic!() };
        drop(reply);
        // Both pipes fill, and signals and the end still get through.
        tokio::time::sleep(Duration::from_millis(100)).await;
        kill(pid_of(&child), SIGTERM);
        let exit = exited(&mut ticket).await;
        assert_eq!((exit.exit, exit.asked), (Exit::Code(5), Some(15)));
        assert_eq!(child.wait().unwrap().code(), Some(5));
    });
}

fn shim_passes_floods_untouched() {
    hubbed(TicketSpec::default(), |_, mut ticket| async move {
        let script = "echo first; seq 1 200000; seq 1 200000 >&2";
        let mut child = with_ticket(script, &ticket).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let output = std::thread::spawn(move || child.wait_with_output().unwrap());
        let exit = exited(&mut ticket).await;
        let numbers: String = (1..=200_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
        assert!(output.join().unwrap().stdout == format!("first\n{numbers}").into_bytes());
        assert!(errors.join().unwrap() == numbers.into_bytes());
        assert_eq!(exit.stderr_tail.len(), 64);
        assert_eq!(exit.stderr_tail.last().unwrap(), "200000");
        assert!(exit.stdout_noise.len() < 20_000 && exit.stdout_noise.starts_with("1\n2\n"));
    });
}

fn shim_serves_several_starts() {
    hubbed(TicketSpec::default(), |_, mut ticket| async move {
        for expected in 0..2 {
            let child = with_ticket("echo line", &ticket).spawn().unwrap();
            let Some(ShimEvent::Started { start, .. }) = ticket.events.recv().await else { panic!() };
            assert_eq!(start, expected);
            exited(&mut ticket).await;
            assert_eq!(child.wait_with_output().unwrap().stdout, b"line\n");
        }
    });
}

/// Runs a test with a file that can be started in place of a plugin: a shell with the client's
/// arguments, unless the first of these is `refuse`.
fn standing_in<F: Future<Output = ()>>(test: impl FnOnce(PathBuf, Ticket, Hub) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::new().unwrap();
        let hub = Hub::bind(scratch.path()).unwrap();
        let composer = Composer::new(|composed| {
            let args = &composed.argv[1..];
            if args[0] == "refuse" {
                return Err("not like this".to_owned());
            }
            let argv = ["/bin/sh", "-c"].map(str::to_owned).into_iter().chain(args.iter().cloned()).collect();
            Ok(StartOrder { argv: Some(argv), ..StartOrder::default() })
        });
        let ticket = hub.ticket(TicketSpec { composer: Some(composer), ..TicketSpec::default() }).unwrap();
        let path = hub.stand_in(&ticket, scratch.path()).unwrap();
        test(path, ticket, hub).await;
    });
}

/// Starts a stand-in as hosts do that clean the environment.
fn stand_in(path: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stand_in_runs_what_the_ticket_says() {
    standing_in(|path, mut ticket, hub| async move {
        let child = stand_in(&path, &["echo $0 $1; exit 6", "a b", "c"]).spawn().unwrap();
        let Some(ShimEvent::Started { started, .. }) = ticket.events.recv().await else { panic!() };
        assert_eq!(started.argv[1..], ["echo $0 $1; exit 6", "a b", "c"]);
        assert_eq!(started.ran[..2], ["/bin/sh", "-c"]);
        assert_eq!(exited(&mut ticket).await.exit, Exit::Code(6));
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(6), b"a b c\n".as_slice()));
        let child = stand_in(&path, &["refuse"]).spawn().unwrap();
        let Some(ShimEvent::CannotStart { error, .. }) = ticket.events.recv().await else { panic!() };
        let output = child.wait_with_output().unwrap();
        assert!(error == "not like this" && String::from_utf8_lossy(&output.stderr).contains(&error));
        assert_eq!(output.status.code(), Some(127));
        // It runs nothing, and itself least of all, once nobody says what.
        drop((ticket, hub));
        let output = stand_in(&path, &["echo a"]).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(127), 0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("is over"), "{output:?}");
    });
}

fn stand_in_passes_signals_on() {
    standing_in(|path, mut ticket, hub| async move {
        let script = "trap 'echo usr' USR1; trap 'echo term; exit 4' TERM; echo ready; while :; do sleep 0.01; done";
        let mut child = stand_in(&path, &[script]).env("PATH", "/usr/bin:/bin").spawn().unwrap();
        let Some(ShimEvent::Started { .. }) = ticket.events.recv().await else { panic!() };
        let Some(ShimEvent::Line { reply, .. }) = ticket.events.recv().await else { panic!() };
        drop(reply);
        let pid = pid_of(&child);
        let out = child.stdout.take().unwrap();
        let lines = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(out).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            kill(pid, SIGUSR1);
            assert_eq!(lines.next().unwrap().unwrap(), "usr");
            kill(pid, SIGTERM);
            assert_eq!(lines.next().unwrap().unwrap(), "term");
        });
        lines.await.unwrap();
        let exit = exited(&mut ticket).await;
        assert_eq!((exit.exit, exit.asked), (Exit::Code(4), Some(15)));
        assert_eq!(child.wait().unwrap().code(), Some(4));
        drop(hub);
    });
}

fn shim_cannot_start() {
    hubbed(TicketSpec::default(), |_, mut ticket| async move {
        let mut command = Command::new(&ticket.argv_prefix[0]);
        command.args(&ticket.argv_prefix[1..]).arg("/no/such/plugin").envs(ticket.env.iter().cloned());
        let output = command.output().unwrap();
        let event = ticket.events.recv().await;
        let Some(ShimEvent::CannotStart { error, .. }) = event else { panic!("{event:?} {output:?}") };
        assert!(error.contains("`/no/such/plugin`"), "{error}");
        assert_eq!(output.status.code(), Some(127));
        assert!(String::from_utf8(output.stderr).unwrap().contains(&error));
    });
}
