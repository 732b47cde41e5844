//! Programs under a keeper: how they start, end, fail to start, and that nothing of them stays.

mod support;

use std::time::Duration;

use soupscen::outcome::Exit;
use soupscen::process::capture::Capture;
use soupscen::process::scratch::Scratch;
use soupscen::process::{Program, SpawnError, Spawned, Spawner};
use support::{alive, pid_in, stray};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn sh(script: &str) -> Program {
    Program::new(vec!["/bin/sh".into(), "-c".into(), script.into()])
}

async fn start(program: &Program) -> Result<Spawned, SpawnError> {
    Spawner::start("test-run").unwrap().spawn(program).await
}

async fn text(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn output_exit_status_and_environment_are_as_asked() {
    let mut program = sh("echo out; echo err >&2; echo $SOUPSCEN_RUN $GIVEN ${CARGO_MANIFEST_DIR-clean}; exit 7");
    program.env.push(("GIVEN".into(), "x y".into()));
    let mut spawned = start(&program).await.unwrap();
    let (out, err) = (text(spawned.stdout.take().unwrap()).await, text(spawned.stderr.take().unwrap()).await);
    assert_eq!((out.as_str(), err.as_str()), ("out\ntest-run x y clean\n", "err\n"));
    assert_eq!(spawned.wait().await, Exit::Code(7));
    assert_eq!(spawned.watcher().gone().await, Exit::Code(7));
}

#[tokio::test]
async fn standard_input_is_a_pipe_on_request_and_empty_otherwise() {
    let mut program = sh("cat");
    program.stdin = true;
    let mut spawned = start(&program).await.unwrap();
    let mut stdin = spawned.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    assert_eq!(text(spawned.stdout.take().unwrap()).await, "through");

    let mut without = start(&sh("cat; echo end")).await.unwrap();
    assert_eq!(text(without.stdout.take().unwrap()).await, "end\n");
}

#[tokio::test]
async fn a_program_has_a_group_of_its_own_fresh_signals_and_no_foreign_descriptors() {
    let mut program = sh("grep -E '^Sig(Blk|Ign):' /proc/self/status; ls /proc/self/fd | wc -l; cat");
    program.stdin = true;
    let mut spawned = start(&program).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(spawned.pid);
    assert_eq!(nix::unistd::getpgid(Some(pid)), Ok(pid));
    drop(spawned.stdin.take());
    let out = text(spawned.stdout.take().unwrap()).await;
    assert!(out.contains("SigBlk:\t0000000000000000"), "{out}");
    // The C library lets nobody reset its own 32 and 33, which a parent may have left ignored.
    let ignored = out.split("SigIgn:\t").nth(1).and_then(|rest| u64::from_str_radix(&rest[..16], 16).ok());
    assert_eq!(ignored.unwrap() & 0x7fff_ffff, 0, "{out}");
    // `ls` has 0, 1, 2 and the folder that it reads.
    assert_eq!(out.trim_end().rsplit('\n').next(), Some("4"), "{out}");
}

#[tokio::test]
async fn death_by_a_signal_is_told_as_such() {
    let spawned = start(&sh("kill -SEGV $$")).await.unwrap();
    assert_eq!(spawned.wait().await, Exit::Signal(11));
}

#[tokio::test]
async fn a_tree_dies_with_its_program_even_where_it_hides() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("pid");
    let spawned = start(&sh(&format!("{}; exit 3", stray(&file)))).await.unwrap();
    assert_eq!(spawned.watcher().gone().await, Exit::Code(3));
    assert!(!alive(pid_in(&file)));
}

#[tokio::test]
async fn terminate_leaves_time_for_an_orderly_end() {
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut spawned = start(&sh(script)).await.unwrap();
    let capture = Capture::start(spawned.stdout.take().unwrap());
    capture.beyond(5).await;
    assert_eq!(spawned.terminate(Duration::from_mins(1)).await, Exit::Code(5));
    capture.ended().await;
    assert_eq!(capture.since(0), b"ready\nbye\n");
}

#[tokio::test]
async fn terminate_kills_what_ignores_it_once_the_grace_is_over() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("pid");
    let script = format!("trap '' TERM; {}; echo ready; while :; do sleep 1; done", stray(&file));
    let mut spawned = start(&sh(&script)).await.unwrap();
    let capture = Capture::start(spawned.stdout.take().unwrap());
    capture.beyond(5).await;
    assert_eq!(spawned.terminate(Duration::from_millis(50)).await, Exit::Signal(9));
    assert!(!alive(pid_in(&file)) && !alive(spawned.pid));
}

#[tokio::test]
async fn dropping_the_handle_ends_the_tree() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("pid");
    let mut spawned = start(&sh(&format!("{}; echo ready; sleep 600", stray(&file)))).await.unwrap();
    let capture = Capture::start(spawned.stdout.take().unwrap());
    capture.beyond(5).await;
    let watcher = spawned.watcher();
    drop(spawned);
    assert_eq!(watcher.gone().await, Exit::Signal(9));
    assert!(!alive(pid_in(&file)));
}

#[tokio::test]
async fn many_programs_at_once_each_keep_their_own_pipes() {
    let spawner = Spawner::start("many").unwrap();
    let all = (0..40).map(|i| {
        let spawner = spawner.clone();
        async move {
            let mut spawned = spawner.spawn(&sh(&format!("echo {i}"))).await.unwrap();
            // Comes to its end only if no other keeper or program holds a copy of the pipe.
            assert_eq!(text(spawned.stdout.take().unwrap()).await, format!("{i}\n"));
            assert_eq!(spawned.watcher().gone().await, Exit::Code(0));
        }
    });
    futures::future::join_all(all).await;
}

#[tokio::test]
async fn a_flood_is_drained_and_only_its_ends_are_kept() {
    let mut spawned = start(&sh("echo first; head -c 20000000 /dev/zero; echo last")).await.unwrap();
    let capture = Capture::start(spawned.stdout.take().unwrap());
    assert_eq!(spawned.wait().await, Exit::Code(0));
    capture.ended().await;
    let kept = capture.snapshot();
    assert_eq!(kept.total(), 20_000_011);
    let bytes = kept.bytes();
    assert!(bytes.len() < 100_000 && bytes.starts_with(b"first\n") && bytes.ends_with(b"last\n"));
}

async fn refused(program: Program) -> (SpawnError, String) {
    let error = start(&program).await.map(drop).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why_and_what_to_do() {
    let scratch = Scratch::new().unwrap();
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = scratch.path().join(name);
        std::fs::write(&path, content).unwrap();
        let permissions = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        std::fs::set_permissions(&path, permissions).unwrap();
        Program::new(vec![path.to_str().unwrap().to_owned()])
    };
    let (error, text) = refused(Program::new(vec!["no-such-program-anywhere".into()])).await;
    assert!(matches!(error, SpawnError::NotOnPath { .. }) && text.contains("install it"), "{text}");
    let (error, _) = refused(Program::new(vec!["/no/such/program".into()])).await;
    assert!(matches!(error, SpawnError::NotFound { .. }));
    let (error, _) = refused(Program::new(vec!["/tmp".into()])).await;
    assert!(matches!(error, SpawnError::Folder { .. }));
    let (error, text) = refused(file("plain", b"#!/bin/sh\n", 0o644)).await;
    assert!(matches!(error, SpawnError::NotExecutable { .. }) && text.contains("chmod +x"), "{text}");
    let (error, text) = refused(file("bytes", b"\x01\x02\x03 no program", 0o755)).await;
    assert!(matches!(error, SpawnError::Format { .. }) && text.contains("`#!` line"), "{text}");
    let (error, _) = refused(file("orphan", b"#!/no/such/interpreter\n", 0o755)).await;
    assert!(matches!(error, SpawnError::Interpreter { .. }));
    let (error, text) = refused(Program { argv: vec!["/bin/true".into(), "x".repeat(4 << 20)], ..sh("") }).await;
    assert!(matches!(error, SpawnError::TooLarge { .. }) && text.len() < 300, "{text}");
    let (error, text) = refused(Program { folder: Some("/no/such/folder".into()), ..sh("true") }).await;
    assert!(matches!(error, SpawnError::WorkingFolder { .. }) && text.contains("/no/such/folder"), "{text}");
    let (error, _) = refused(Program::new(vec!["/bin/true".into(), "a\0b".into()])).await;
    assert!(matches!(error, SpawnError::Nul { .. }));
}
