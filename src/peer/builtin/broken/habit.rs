//! Processes that misbehave: how they start, what they print, which signals they ignore, what they
//! leave behind. What they serve is in order.

use std::io::{self, Write as _};

use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

super::switches! {
    /// How a process misbehaves.
    Habit {
        Crashes "crashes" "is ended by SIGSEGV before anything else";
        Aborts "aborts" "is ended by SIGABRT before anything else";
        Killed "killed" "is ended by SIGKILL before anything else";
        ForksAndExits "forks-and-exits" "leaves a child that holds its stdout and exits with status 0, as a daemon does";
        ClosesStdoutFirst "closes-stdout-first" "closes stdout before its line and stays";
        MegabyteLine "megabyte-line" "prints a megabyte without an end of line before its line";
        NulBytes "nul-bytes" "prints NUL bytes before its line";
        Utf16Line "utf16-line" "prints its line in UTF-16";
        Latin1Noise "latin1-noise" "prints a line in Latin-1 before its line";
        EmptyLine "empty-line" "prints an empty line before its line";
        NoNewline "no-newline" "prints its line without an end of line, and stays";
        LineThenExit "line-then-exit" "exits with status 4 right after its line";
        LineThenCrash "line-then-crash" "is ended by SIGSEGV right after its line";
        TwoLines "two-lines" "prints its line twice";
        SlowLine "slow-line" "prints its line byte by byte";
        FloodsStderr "floods-stderr" "writes 8 MiB to stderr before its line";
        FloodsStdout "floods-stdout" "writes 8 MiB to stdout after its line";
        ClosesOutput "closes-output" "closes stdin, stdout and stderr after its line";
        IgnoresSigterm "ignores-sigterm" "ignores SIGTERM and its host's `Shutdown`";
        LeavesChild "leaves-child" "leaves a grandchild in a session of its own, without environment";
    }
}

/// Bytes of a flood.
const FLOOD: usize = 8 << 20;
/// What a handshake line can never be.
const LONG: &[u8] = &[b'x'; 1 << 20];
/// Between the bytes of a slow line.
const DRIP: Duration = Duration::from_millis(1);

impl Habit {
    /// What it does before anything else; a status ends the process.
    pub(in super::super) fn first(self) -> Option<u8> {
        match self {
            Self::Crashes => die(Signal::SIGSEGV),
            Self::Aborts => die(Signal::SIGABRT),
            Self::Killed => die(Signal::SIGKILL),
            Self::ForksAndExits => {
                // Its own stdout goes to the child, which prints nothing.
                let _ = Command::new("sleep").arg("600").spawn();
                return Some(0);
            }
            Self::ClosesStdoutFirst => close(&[|to| dup2_stdout(to)]),
            Self::FloodsStderr => flood(&mut io::stderr()),
            Self::LeavesChild => {
                // Forked twice, so that it is nobody's child.
                let line = "setsid sh -c 'sleep 600 & exit' >/dev/null 2>&1 </dev/null";
                let _ = Command::new("sh").args(["-c", line]).env_clear().env("PATH", path()).status();
            }
            _ => {}
        }
        None
    }

    /// What is printed for `line`.
    pub(in super::super) fn print(self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let before: &[u8] = match self {
            Self::ClosesStdoutFirst => return Ok(()),
            Self::MegabyteLine => LONG,
            Self::NulBytes => b"\0\0\0\0\n",
            Self::Latin1Noise => b"d\xe9marrage du greffon\n",
            Self::EmptyLine => b"\n",
            Self::TwoLines => return write!(stdout, "{line}\n{line}\n").and_then(|()| stdout.flush()),
            Self::Utf16Line => {
                let wide: Vec<u8> = format!("{line}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
                return stdout.write_all(&wide).and_then(|()| stdout.flush());
            }
            Self::NoNewline => return write!(stdout, "{line}").and_then(|()| stdout.flush()),
            Self::SlowLine => {
                for byte in line.bytes().chain([b'\n']) {
                    stdout.write_all(&[byte])?;
                    stdout.flush()?;
                    thread::sleep(DRIP);
                }
                return Ok(());
            }
            _ => b"",
        };
        stdout.write_all(before)?;
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    /// Whether it ends right after its line, so that nobody is served however fast the host is.
    pub(in super::super) fn leaves(self) -> bool {
        matches!(self, Self::LineThenExit | Self::LineThenCrash)
    }

    /// How one that leaves ends: by a signal, or with this status.
    pub(in super::super) fn leave(self) -> u8 {
        match self {
            Self::LineThenCrash => die(Signal::SIGSEGV),
            _ => 4,
        }
    }

    /// What it does after its line.
    pub(in super::super) fn after_line(self) {
        match self {
            Self::FloodsStdout => drop(thread::spawn(|| flood(&mut io::stdout()))),
            Self::ClosesOutput => close(&[|to| dup2_stdin(to), |to| dup2_stdout(to), |to| dup2_stderr(to)]),
            _ => {}
        }
    }

    /// Whether neither a signal nor the host ends it.
    pub(in super::super) fn stays(self) -> bool {
        self == Self::IgnoresSigterm
    }
}

/// Ends this process by a signal, without a core file.
pub(super) fn die(signal: Signal) -> ! {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    loop {
        // The first SIGSEGV only takes the standard library's own handler away.
        let _ = raise(signal);
    }
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// Lets go of the pipes. Something else stays under their numbers, or a socket would come there.
fn close(streams: &[fn(&std::fs::File) -> nix::Result<()>]) {
    if let Ok(nothing) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        for stream in streams {
            let _ = stream(&nothing);
        }
    }
}

fn flood(to: &mut impl io::Write) {
    let lines = [[b'#'; 127].as_slice(), b"\n"].concat().repeat(64);
    for _ in 0..FLOOD / lines.len() {
        if to.write_all(&lines).is_err() {
            return;
        }
    }
}
