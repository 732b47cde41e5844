//! The shim's second process: the plugin's parent and subreaper. It asks the hub how to start the
//! plugin, passes its bytes, and ends it when the front is gone.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;

use super::link::{Heard, Link};
use super::pump::Pump;
use super::{CANNOT_START, Task, hear};
use crate::outcome::Exit;
use crate::process::capture::Tail;
use crate::process::environment::find_program;
use crate::process::keeper::{Launch, Record, Stage, become_child, read_failure};
use crate::process::messages::{Exited, FromShim, Hello, StartOrder, ToShim, VARIABLE, from_base64, to_base64};
use crate::process::spawner::{SpawnError, of_errno};
use crate::process::{sweep, sys};

/// How long a host that has stopped reading may take for the output of a plugin that has ended.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// What of standard error is reported.
const STDERR_LINES: usize = 64;
const STDERR_BYTES: usize = 16 * 1024;
/// What of standard output beyond the first line is reported: beginning and end.
const NOISE_BYTES: usize = 8 * 1024;
/// Bounds of what a hello tells: entries of each list, and bytes of the arguments, of the variables'
/// names and of those that are told with their values. Escaped, all of it fits into a message.
const HELLO_ENTRIES: usize = 1024;
const ARGV_BYTES: usize = 128 * 1024;
const NAMES_BYTES: usize = 64 * 1024;
const ENV_BYTES: usize = 64 * 1024;

/// Runs the plugin to its end; gives the exit status of this process.
pub(super) fn run(task: Task, life: OwnedFd, mask: SigSet) -> i32 {
    let _ = nix::unistd::setsid();
    let _ = prctl::set_name(c"soupscen-shim");
    let _ = prctl::set_child_subreaper(true);
    let Task { argv, ticket } = task;
    let mut link = None;
    let mut order = StartOrder::default();
    let mut refused = ticket.is_some().then(|| "the run that this server path belongs to is over".to_owned());
    let connected = match &ticket {
        Some(ticket) => Link::by_ticket(ticket),
        None => Link::from_environment(),
    };
    if let Some((mut connected, token)) = connected {
        let hello = FromShim::Hello(hello(token, &argv, &std::env::vars_os().collect::<Vec<_>>()));
        match connected.send(&hello).then(|| connected.answer(&life)).flatten() {
            Some(ToShim::Start(given)) => {
                refused = refused.filter(|_| given.argv.is_none());
                order = given;
                link = Some(connected);
            }
            Some(ToShim::Refuse { error }) => refused = Some(error),
            _ => {}
        }
    }
    let argv = order.argv.map_or(argv, |given| given.into_iter().map(OsString::from).collect());
    let env = environment(&order.add_env, &order.drop_env);
    let started = match refused {
        Some(error) => Err(error),
        None => start(&argv, &env, mask).map_err(|error| error.to_string()),
    };
    match started {
        Ok(plugin) => {
            if let Some(link) = &mut link {
                link.send(&FromShim::Started { pid: plugin.pid });
            }
            Shim::new(plugin, link, life).pass()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "soupscen shim: {error}");
            if let Some(link) = &mut link {
                link.send(&FromShim::CannotStart { error });
            }
            let status = i32::from(CANNOT_START) << 8;
            let _ = nix::unistd::write(&life, &Record::Ended(status).encode());
            0
        }
    }
}

/// Whether the next of a list fits into its bytes. One that does not takes no room from others.
fn room(mut left: usize) -> impl FnMut(usize) -> bool {
    move |length| {
        let rest = left.checked_sub(length);
        left = rest.unwrap_or(left);
        rest.is_some()
    }
}

fn hello(token: String, argv: &[OsString], variables: &[(OsString, OsString)]) -> Hello {
    let (mut env_room, mut names_room, mut argv_room) = (room(ENV_BYTES), room(NAMES_BYTES), room(ARGV_BYTES));
    let lossy = |text: &OsStr| text.to_string_lossy().into_owned();
    let env = variables
        .iter()
        .map(|(key, value)| (lossy(key), lossy(value)))
        .filter(|(key, _)| key.starts_with("PLUGIN_"))
        .take(HELLO_ENTRIES)
        .filter(|(key, value)| env_room(key.len() + value.len()))
        .collect();
    let names = variables
        .iter()
        .map(|(key, _)| lossy(key))
        .filter(|key| key != VARIABLE)
        .take(HELLO_ENTRIES)
        .filter(|key| names_room(key.len()))
        .collect();
    let told: Vec<String> = argv.iter().take(HELLO_ENTRIES).map(|a| lossy(a)).filter(|a| argv_room(a.len())).collect();
    let cut = told.len() != argv.len() || argv.iter().any(|a| a.to_str().is_none());
    let folder = std::env::current_dir().map(|f| lossy(f.as_os_str())).unwrap_or_default();
    Hello { token, argv: told, env, names, folder, cut }
}

fn environment(add: &[(String, String)], drop: &[String]) -> Vec<(OsString, OsString)> {
    let replaced =
        |key: &OsString| key == VARIABLE || drop.iter().any(|d| **key == **d) || add.iter().any(|(a, _)| **key == **a);
    let mut env: Vec<_> = std::env::vars_os().filter(|(key, _)| !replaced(key)).collect();
    env.extend(add.iter().map(|(key, value)| (key.into(), value.into())));
    env
}

struct Plugin {
    pid: i32,
    stdout: OwnedFd,
    stderr: OwnedFd,
    since: Instant,
}

fn start(argv: &[OsString], env: &[(OsString, OsString)], mask: SigSet) -> Result<Plugin, SpawnError> {
    let first = argv.first().ok_or(SpawnError::Empty)?;
    let program = first.to_string_lossy().into_owned();
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let full = find_program(&program, None, path)?;
    let image =
        sys::Image::new(Path::new(&full), argv, env, None).map_err(|_| SpawnError::Nul { program: program.clone() })?;
    let failed = |stage, errno| of_errno(errno, stage, program.clone(), String::new());
    let made = (|| {
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        let (reason, failure) = pipe()?;
        for ours in [&stdout, &stderr] {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let since = Instant::now();
        let launch = Launch { image, mask, isolated: false, stdio: [stdin, out, err], failure };
        let pid = sys::fork_with(&launch, become_child)?.as_raw();
        Ok((Plugin { pid, stdout, stderr, since }, reason))
    })();
    let (plugin, reason) = made.map_err(|errno| failed(Stage::Fork, errno))?;
    let mut bytes = [0; 8];
    let got = nix::unistd::read(&reason, &mut bytes);
    if got == Ok(bytes.len()) {
        let (stage, errno) = read_failure(bytes);
        let _ = sys::reap_one(plugin.pid);
        return Err(failed(stage, errno));
    }
    // The plugin alone has the host's standard input now, and closing it must be seen by the host.
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = sys::place(&null, 0);
    }
    Ok(plugin)
}

/// Everything while the plugin runs.
struct Shim {
    pid: i32,
    since: Instant,
    link: Option<Link>,
    life: OwnedFd,
    stdout: Pump,
    stderr: Pump,
    status: Option<i32>,
    asked: Option<i32>,
    lived: Duration,
}

impl Shim {
    fn new(plugin: Plugin, link: Option<Link>, life: OwnedFd) -> Self {
        let stdout = Pump::new(plugin.stdout, 1, link.is_some(), Tail::new(NOISE_BYTES, NOISE_BYTES));
        let stderr = Pump::new(plugin.stderr, 2, false, Tail::new(0, STDERR_BYTES));
        let (pid, since) = (plugin.pid, plugin.since);
        Self { pid, since, link, life, stdout, stderr, status: None, asked: None, lived: Duration::ZERO }
    }

    fn pass(mut self) -> i32 {
        let mut watched = SigSet::empty();
        watched.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let Ok(signals) = SignalFd::with_flags(&watched, flags) else {
            self.sweep();
            return 1;
        };
        let mut flush_until = None;
        loop {
            if self.status.is_none() {
                self.reap();
                if self.status.is_some() {
                    // With the rest of the tree gone, the outputs come to their ends.
                    self.sweep();
                    flush_until = Some(Instant::now() + FLUSH_WITHIN);
                }
            }
            let flushed = self.stdout.is_done() && self.stderr.is_done();
            let late = flush_until.is_some_and(|at| Instant::now() >= at) && self.stdout.asked_until().is_none();
            if self.status.is_some() && (flushed || late) {
                break;
            }
            let ready = self.wait(&signals, flush_until);
            while matches!(signals.read_signal(), Ok(Some(_))) {}
            if ready.life && !self.hear_front() {
                break;
            }
            if ready.link {
                self.hear_hub();
            }
            if self.stdout.asked_until().is_some_and(|until| Instant::now() >= until) {
                self.link = None;
                self.stdout.print(None);
            }
            if ready.stdout
                && let Some(line) = self.stdout.take_in()
            {
                self.ask(&line);
            }
            if ready.stderr {
                self.stderr.take_in();
            }
            let moved = [self.stdout.give_out(), self.stderr.give_out()];
            if moved.contains(&true) && flush_until.is_some() {
                flush_until = Some(Instant::now() + FLUSH_WITHIN);
            }
        }
        self.end()
    }

    fn wait(&self, signals: &SignalFd, flush_until: Option<Instant>) -> Ready {
        let link = self.link.as_ref().map(Link::as_fd);
        let wanted = [
            (Some(signals.as_fd()), PollFlags::POLLIN),
            (Some(self.life.as_fd()), PollFlags::POLLIN),
            (link, PollFlags::POLLIN),
            (self.stdout.wants_input(), PollFlags::POLLIN),
            (self.stderr.wants_input(), PollFlags::POLLIN),
            (self.stdout.wants_output(), PollFlags::POLLOUT),
            (self.stderr.wants_output(), PollFlags::POLLOUT),
        ];
        // One that is not wanted is stood in for by the signals with no events asked for.
        let mut fds = wanted.map(|(fd, flags)| match fd {
            Some(fd) => PollFd::new(fd, flags),
            None => PollFd::new(signals.as_fd(), PollFlags::empty()),
        });
        let until = [flush_until, self.stdout.asked_until()].into_iter().flatten().min();
        let timeout = until.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut fds, timeout);
        let [_, life, link, stdout, stderr, ..] = fds.map(|fd| fd.revents().is_some_and(|r| !r.is_empty()));
        Ready { life, link, stdout, stderr }
    }

    /// Passes a signal on; `false` when the front is gone.
    fn hear_front(&mut self) -> bool {
        match hear(&self.life) {
            Some(Record::Signal(signal)) => {
                if self.status.is_none() {
                    self.asked = Some(signal);
                    let _ = sys::send_signal(self.pid, signal);
                }
                true
            }
            Some(_) => true,
            None => {
                if self.status.is_none() {
                    self.asked = Some(libc::SIGKILL);
                }
                false
            }
        }
    }

    fn hear_hub(&mut self) {
        let Some(link) = &mut self.link else { return };
        match link.hear() {
            Heard::Message(ToShim::Print { raw }) => self.stdout.print(from_base64(&raw)),
            Heard::Message(ToShim::Start(_) | ToShim::Refuse { .. }) | Heard::Nothing => {}
            Heard::Lost => {
                self.link = None;
                self.stdout.print(None);
            }
        }
    }

    fn ask(&mut self, line: &[u8]) {
        let after_us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let question = FromShim::Line { raw: to_base64(line), after_us };
        if !self.link.as_mut().is_some_and(|link| link.send(&question)) {
            self.link = None;
            self.stdout.print(None);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = sys::reap_any() {
            self.note(pid, status);
        }
    }

    fn sweep(&mut self) {
        sweep::sweep(|pid, status| self.note(pid, status));
    }

    fn note(&mut self, pid: i32, status: i32) {
        if pid == self.pid {
            self.status = Some(status);
            self.lived = self.since.elapsed();
        }
    }

    fn end(mut self) -> i32 {
        self.sweep();
        self.stdout.drain();
        self.stderr.drain();
        let exit = self.status.map_or(Exit::Signal(libc::SIGKILL), sys::exit_of);
        if let Some(link) = &mut self.link {
            link.send(&FromShim::Exited(Exited {
                exit,
                asked: self.asked,
                stderr_tail: self.stderr.seen.last_lines(STDERR_LINES, STDERR_BYTES),
                stdout_noise: String::from_utf8_lossy(&self.stdout.seen.bytes()).into_owned(),
                lived_us: u64::try_from(self.lived.as_micros()).unwrap_or(u64::MAX),
            }));
        }
        let status = self.status.unwrap_or(libc::SIGKILL);
        let _ = nix::unistd::write(&self.life, &Record::Ended(status).encode());
        0
    }
}

/// Which descriptors have something.
#[expect(clippy::struct_excessive_bools, reason = "one answer per descriptor, read at once")]
struct Ready {
    life: bool,
    link: bool,
    stdout: bool,
    stderr: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::messages::MESSAGE_BYTES;

    #[test]
    fn what_is_too_long_for_a_hello_takes_no_room_from_the_rest() {
        let long = || OsString::from("\u{1}".repeat(ARGV_BYTES - 8));
        let argv = ["tool", "--before"].map(OsString::from).into_iter().chain([long(), "--after".into()]);
        let argv: Vec<_> = argv.collect();
        let pair = |key: &str, value: OsString| (OsString::from(key), value);
        let variables = [
            pair("PLUGIN_LONG", long()),
            pair("PLUGIN_MIN_PORT", "1".into()),
            pair(&"N".repeat(NAMES_BYTES), "".into()),
            pair("HOME", "/".into()),
        ];
        let hello = hello("t".into(), &argv, &variables);
        assert_eq!(hello.argv, ["tool", "--before", "--after"]);
        assert!(hello.cut);
        assert_eq!(hello.names, ["PLUGIN_LONG", "PLUGIN_MIN_PORT", "HOME"]);
        assert_eq!(hello.env, [("PLUGIN_MIN_PORT".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn the_longest_hello_is_one_message() {
        let text = |bytes: usize| OsString::from("\u{1}".repeat(bytes));
        let variables = [(OsString::from("PLUGIN_X"), text(ENV_BYTES - 8)), (text(NAMES_BYTES - 8), OsString::new())];
        let hello = hello("t".into(), &[text(ARGV_BYTES)], &variables);
        assert!(!hello.cut && hello.names.len() == 2 && hello.env.len() == 1);
        assert!(crate::process::messages::encode(&FromShim::Hello(hello)).len() < MESSAGE_BYTES);
    }
}
