//! Starts programs: one thread forks them all, each under a keeper of its own. Reads `keeper`,
//! `environment` and `sys`; gives [`Spawned`] to `peer`.
//!
//! One thread, so that forks do not stall the runtime's workers, never overlap (a keeper must not
//! inherit what is being prepared for another), and block signals in one place.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::environment::{self, Inherit};
use super::keeper::{self, Launch, Plan, Stage, read_failure};
use super::spawned::Spawned;
use super::{guard, sys};

/// Longest part of a command line shown in an error.
const SHOWN: usize = 200;

/// What to run and how.
#[derive(Debug, Clone)]
pub struct Program {
    /// Program and arguments. A program without `/` is looked for on `PATH` (the given one, if
    /// `env` has it), a relative one with `/` from `folder`.
    pub argv: Vec<String>,
    /// Working directory; the engine's when absent.
    pub folder: Option<PathBuf>,
    /// Variables on top of the inherited ones.
    pub env: Vec<(String, String)>,
    /// Which variables are inherited.
    pub inherit: Inherit,
    /// Standard input is a pipe; otherwise it is at its end at once.
    pub stdin: bool,
    /// Standard error goes where standard output goes: one order, one pipe.
    pub merge_output: bool,
}

impl Program {
    /// A program under test: clean environment, no standard input, output and errors apart.
    #[must_use]
    pub fn new(argv: Vec<String>) -> Self {
        Self { argv, folder: None, env: Vec::new(), inherit: Inherit::Clean, stdin: false, merge_output: false }
    }
}

/// Why a program could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// No program in the command.
    #[error("the command is empty; name a program")]
    Empty,
    /// It is nowhere on `PATH`.
    #[error("the program `{program}` is not on PATH; install it, or give its path")]
    NotOnPath {
        /// Which.
        program: String,
    },
    /// There is no such file.
    #[error("there is no program at `{program}`; build it, or correct the path")]
    NotFound {
        /// Its path.
        program: String,
    },
    /// It is a folder.
    #[error("`{program}` is a folder, not a program; name the program in it")]
    Folder {
        /// Which.
        program: String,
    },
    /// It lacks the permission.
    #[error("`{program}` may not be executed; `chmod +x` it, or run it by its interpreter")]
    NotExecutable {
        /// Which.
        program: String,
    },
    /// The system does not know its format.
    #[error(
        "`{program}` is no program that this system can run (ENOEXEC); give a script its `#!` line, \
         or build for this machine"
    )]
    Format {
        /// Which.
        program: String,
    },
    /// A script whose interpreter is missing.
    #[error("the interpreter that `{program}` names in its first line does not exist; correct its `#!` line")]
    Interpreter {
        /// Which.
        program: String,
    },
    /// Arguments and environment are too large.
    #[error("the command line and environment of `{program}` are too large (E2BIG); pass large values by files")]
    TooLarge {
        /// Which.
        program: String,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter the working directory `{folder}`: {error}")]
    WorkingFolder {
        /// Which.
        folder: String,
        /// The system's words.
        error: String,
    },
    /// A limit of files or processes.
    #[error("cannot start `{program}`: {error}; raise {limit}, or run fewer cases at once with `--jobs`")]
    Limit {
        /// Which.
        program: String,
        /// The system's words.
        error: String,
        /// Which limit, as a shell sets it.
        limit: &'static str,
    },
    /// A text with a NUL byte.
    #[error("an argument or variable of `{program}` holds a NUL byte, which no program can be given")]
    Nul {
        /// Which.
        program: String,
    },
    /// The run is being ended.
    #[error("`{program}` was not started, since the run is being ended")]
    Ending {
        /// Which.
        program: String,
    },
    /// Anything else.
    #[error("cannot start `{program}`: {error}")]
    Other {
        /// Which.
        program: String,
        /// The system's words.
        error: String,
    },
}

/// What the spawning thread is asked to do.
pub(super) enum Job {
    /// Fork a keeper with its program.
    Fork(Box<Prepared>, oneshot::Sender<nix::Result<i32>>),
    /// Take the exit status of a keeper that is ending.
    Reap(i32, oneshot::Sender<()>),
}

/// A program with its pipes and environment.
pub(super) struct Prepared {
    plan: Plan,
}

/// The handle to the spawning thread; clones share it. The thread ends with the last handle.
#[derive(Debug, Clone)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
    marker: std::sync::Arc<str>,
    temporary: Option<std::sync::Arc<Path>>,
}

impl Spawner {
    /// Starts the thread. `marker` becomes the value of `SOUPSCEN_RUN` in every program.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(marker: &str) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            // Inherited by keepers, which take their signals from a signalfd; programs start with none blocked.
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
            while let Ok(job) = todo.recv() {
                work(job);
            }
        })?;
        Ok(Self { jobs, marker: marker.into(), temporary: None })
    }

    /// Gives programs this folder as `TMPDIR`, so that what they leave there goes with the run; a
    /// compiler that is killed leaves gigabytes.
    #[must_use]
    pub fn with_temporary(mut self, folder: &Path) -> Self {
        self.temporary = Some(folder.into());
        self
    }

    /// Starts a program under a keeper. Dropping the future, or the result, ends the whole tree.
    ///
    /// # Errors
    /// See [`SpawnError`]; the program has not run a single instruction then.
    pub async fn spawn(&self, program: &Program) -> Result<Spawned, SpawnError> {
        let name = shown(program);
        if guard::is_ending() {
            return Err(SpawnError::Ending { program: name });
        }
        let (image, folder) = self.image(program)?;
        let limit = |error| of_errno(error, Stage::Fork, name.clone(), folder.clone());
        let ends = Ends::make(program).map_err(limit)?;
        let (failure_reader, failure) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(limit)?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).map_err(limit)?;
        let io = |error: std::io::Error| SpawnError::Other { program: name.clone(), error: error.to_string() };
        let ours = std::os::unix::net::UnixStream::from(ours);
        ours.set_nonblocking(true).map_err(io)?;
        let socket = tokio::net::UnixStream::from_std(ours).map_err(io)?;
        let stdin = ends.stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(io)?;
        let stdout = pipe::Receiver::from_owned_fd(ends.stdout).map_err(io)?;
        let stderr = ends.stderr.map(pipe::Receiver::from_owned_fd).transpose().map_err(io)?;
        let mut failed = pipe::Receiver::from_owned_fd(failure_reader).map_err(io)?;

        let launch = Launch { image, mask: SigSet::empty(), isolated: true, stdio: ends.theirs, failure };
        let prepared = Prepared { plan: Plan { launch, socket: theirs } };
        let (reply, forked) = oneshot::channel();
        let gone = || SpawnError::Other { program: name.clone(), error: "the spawning thread has ended".into() };
        self.jobs.send(Job::Fork(Box::new(prepared), reply)).map_err(|_| gone())?;
        let keeper = forked.await.map_err(|_| gone())?.map_err(limit)?;
        let spawned = Spawned::supervise(keeper, socket, self.jobs.clone(), stdin, stdout, stderr);

        // A good exec closes the pipe; anything in it is the reason why there was none.
        let mut reason = [0_u8; 8];
        match failed.read_exact(&mut reason).await {
            Ok(_) => {
                let (stage, errno) = read_failure(reason);
                Err(of_errno(errno, stage, name, folder))
            }
            Err(_) => spawned.started().await.ok_or_else(gone),
        }
    }

    fn image(&self, program: &Program) -> Result<(sys::Image, String), SpawnError> {
        let temporary =
            self.temporary.iter().map(|folder| ("TMPDIR".to_owned(), folder.to_string_lossy().into_owned()));
        let given: Vec<_> = temporary.chain(program.env.iter().cloned()).collect();
        let env = environment::compose(program.inherit, &given, &self.marker);
        let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        let first = program.argv.first().ok_or(SpawnError::Empty)?;
        let full = environment::find_program(first, program.folder.as_deref(), path.as_deref())?;
        // A relative program with a relative folder would be looked up a second time from there.
        let full = std::path::absolute(&full).unwrap_or(full);
        let nul = |_| SpawnError::Nul { program: shown(program) };
        let mut argv: Vec<OsString> = program.argv.iter().map(OsString::from).collect();
        if first.contains('/')
            && let Some(name) = argv.first_mut()
        {
            full.as_os_str().clone_into(name);
        }
        let folder = program.folder.as_deref();
        let image = sys::Image::new(&full, &argv, &env, folder).map_err(nul)?;
        Ok((image, folder.map(|f| f.display().to_string()).unwrap_or_default()))
    }
}

/// The engine's ends of a program's pipes, and the program's own.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    theirs: [OwnedFd; 3],
}

impl Ends {
    fn make(program: &Program) -> nix::Result<Self> {
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
        let (in_theirs, stdin) = if program.stdin {
            let (theirs, ours) = pipe()?;
            (theirs, Some(ours))
        } else {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            (nix::fcntl::open("/dev/null", flags, nix::sys::stat::Mode::empty())?, None)
        };
        let (stdout, out_theirs) = pipe()?;
        let (stderr, err_theirs) = if program.merge_output {
            (None, out_theirs.try_clone().map_err(|_| Errno::EMFILE)?)
        } else {
            let (ours, theirs) = pipe()?;
            (Some(ours), theirs)
        };
        Ok(Self { stdin, stdout, stderr, theirs: [in_theirs, out_theirs, err_theirs] })
    }
}

fn work(job: Job) {
    match job {
        Job::Fork(prepared, reply) => {
            let fork = || sys::fork_with(&prepared.plan, keeper::run).map(nix::unistd::Pid::as_raw);
            let forked = super::spawned::fork_known(fork);
            drop(prepared);
            let _ = reply.send(forked);
        }
        Job::Reap(keeper, reply) => {
            let _ = sys::reap_one(keeper);
            super::spawned::forget(keeper);
            let _ = reply.send(());
        }
    }
}

/// What a failed system call means for whoever wrote the command.
pub(super) fn of_errno(errno: Errno, stage: Stage, program: String, folder: String) -> SpawnError {
    let error = errno.desc().to_owned();
    match (stage, errno) {
        (Stage::Folder, _) => SpawnError::WorkingFolder { folder, error },
        (Stage::Exec, Errno::ENOENT | Errno::ENOTDIR) => SpawnError::Interpreter { program },
        (Stage::Exec, Errno::ENOEXEC) => SpawnError::Format { program },
        (Stage::Exec, Errno::EACCES | Errno::EPERM) => SpawnError::NotExecutable { program },
        (Stage::Exec, Errno::E2BIG) => SpawnError::TooLarge { program },
        (_, Errno::EMFILE) => SpawnError::Limit { program, error, limit: "the limit of open files (`ulimit -n`)" },
        (_, Errno::ENFILE) => SpawnError::Limit { program, error, limit: "the system's limit of open files" },
        (_, Errno::EAGAIN) => SpawnError::Limit { program, error, limit: "the limit of processes (`ulimit -u`)" },
        (_, Errno::ENOMEM) => SpawnError::Limit { program, error, limit: "the memory limit" },
        _ => SpawnError::Other { program, error },
    }
}

fn shown(program: &Program) -> String {
    let name = program.argv.first().map_or("", String::as_str);
    name.chars().take(SHOWN).collect()
}
