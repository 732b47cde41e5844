//! Builds on the real builder, with shell scripts for tools: what is built when, what a failure
//! says, and that nothing half done is ever taken for done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexmap::IndexMap;
use soupscen::diag::{SourceId, Span};
use soupscen::outcome::Exit;
use soupscen::peer::build::{BuildError, BuildLine, Builder, Built};
use soupscen::process::Spawner;
use soupscen::process::scratch::Scratch;
use soupscen::scenario::model::{Build, Peer, Tool, VersionProbe};

const NOWHERE: Span = Span { source: SourceId(0), start: 0, end: 0 };

struct Setting {
    scratch: Scratch,
    spawner: Spawner,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        scratch.folder("peer").unwrap();
        std::fs::write(scratch.path().join("peer/source"), "one").unwrap();
        Self { scratch, spawner: Spawner::start("build-test").unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn builder(&self) -> Builder {
        Builder::new(self.path("cache"), false, self.spawner.clone())
    }

    fn peer(&self, script: &str) -> Peer {
        let run = vec![["sh", "-c", script].map(String::from).to_vec()];
        let build = Build { run, inputs: vec!["source".into()], tools: IndexMap::new(), span: NOWHERE };
        Peer {
            name: "p".into(),
            span: NOWHERE,
            facts: std::collections::BTreeMap::new(),
            client: None,
            server: None,
            build: Some(build),
            versions: IndexMap::new(),
            folder: self.path("peer"),
            vars: serde_json::Map::new(),
            variant: std::collections::BTreeMap::new(),
        }
    }

    /// A build that counts how often it runs.
    fn counting(&self) -> Peer {
        let count = self.path("count");
        self.peer(&format!("echo x >> {}; cp source '{{{{ output }}}}/result'", count.display()))
    }

    fn count(&self) -> usize {
        std::fs::read_to_string(self.path("count")).unwrap_or_default().lines().count()
    }

    fn tool(&self, name: &str, script: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

async fn build(builder: &Builder, peer: &Peer) -> Result<Built, BuildError> {
    builder.build(peer, |_| ()).await
}

fn result(built: &Built) -> String {
    std::fs::read_to_string(built.output.as_ref().unwrap().join("result")).unwrap()
}

#[tokio::test]
async fn a_build_runs_once_until_an_input_a_command_or_a_tool_changes() {
    let setting = Setting::new();
    let version = setting.tool("tool", "cat $(dirname $0)/tool-version");
    std::fs::write(setting.path("tool-version"), "1.0").unwrap();
    let mut peer = setting.counting();
    let tool = Tool { version: vec!["--version".into()], install: "get it".into() };
    peer.build.as_mut().unwrap().tools.insert(version, tool);

    let built = build(&setting.builder(), &peer).await.unwrap();
    assert!(!built.cached && result(&built) == "one");
    let again = build(&setting.builder(), &peer).await.unwrap();
    assert!(again.cached && again.output == built.output && setting.count() == 1);

    std::fs::write(setting.path("peer/source"), "two").unwrap();
    let changed = build(&setting.builder(), &peer).await.unwrap();
    assert!(!changed.cached && result(&changed) == "two");
    // Going back costs nothing.
    std::fs::write(setting.path("peer/source"), "one").unwrap();
    assert!(build(&setting.builder(), &peer).await.unwrap().cached);

    std::fs::write(setting.path("tool-version"), "1.1").unwrap();
    assert!(!build(&setting.builder(), &peer).await.unwrap().cached);
    peer.build.as_mut().unwrap().run.push(vec!["true".into()]);
    assert!(!build(&setting.builder(), &peer).await.unwrap().cached);
    assert_eq!(setting.count(), 4);
}

#[tokio::test]
async fn rebuild_makes_a_new_output_and_leaves_the_one_in_use() {
    let setting = Setting::new();
    let peer = setting.counting();
    let user = setting.builder();
    let first = build(&user, &peer).await.unwrap();
    let rebuilder = Builder::new(setting.path("cache"), true, setting.spawner.clone());
    let second = build(&rebuilder, &peer).await.unwrap();
    assert!(!second.cached && second.output != first.output);
    assert_eq!(result(&first), "one", "a run that uses the old output keeps it");
    drop(user);
    build(&rebuilder, &peer).await.unwrap();
    assert!(!first.output.unwrap().exists(), "then it goes");
}

#[tokio::test]
async fn a_failed_build_shows_the_last_lines_and_leaves_nothing() {
    let setting = Setting::new();
    let peer = setting.peer("for i in $(seq 1 50); do echo line $i; done; echo to stderr >&2; exit 3");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let error = setting.builder().build(&peer, move |line| seen.lock().unwrap().push(line)).await.unwrap_err();
    let BuildError::Failed { exit, lines: last, .. } = &error else { panic!("{error}") };
    assert_eq!((*exit, last.len(), last.last().unwrap().as_str()), (Exit::Code(3), 20, "to stderr"));
    let text = error.to_string();
    assert!(text.contains("`p`") && text.contains("status 3") && text.contains("  line 50\n"), "{text}");
    let lines = lines.lock().unwrap();
    assert!(matches!(&lines[0], BuildLine::Started { command } if command.starts_with("sh -c")));
    assert_eq!(lines.len(), 52);
    let left = std::fs::read_dir(setting.path("cache/p")).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_missing_tool_is_named_with_how_to_get_it_before_anything_runs() {
    let setting = Setting::new();
    let mut peer = setting.counting();
    let build_of = peer.build.as_mut().unwrap();
    let tool = Tool { version: vec!["version".into()], install: "see https://example.org/get".into() };
    build_of.tools.insert("no-such-tool-here".into(), tool);
    build_of.run.push(vec!["no-such-tool-here".into(), "build".into()]);
    let error = build(&setting.builder(), &peer).await.unwrap_err();
    assert!(matches!(error, BuildError::MissingTool { .. }));
    let text = error.to_string();
    assert!(text.contains("`no-such-tool-here build`") && text.contains("https://example.org/get"), "{text}");
    assert_eq!(setting.count(), 0);
    peer.build.as_mut().unwrap().tools.clear();
    assert!(matches!(build(&setting.builder(), &peer).await, Err(BuildError::MissingTool { .. })));
}

#[tokio::test]
async fn two_that_want_the_same_build_build_it_once() {
    let setting = Setting::new();
    let gate = setting.path("gate");
    let peer = setting.peer(&format!(
        "echo x >> {}; while [ ! -e {} ]; do sleep 0.01; done; cp source '{{{{ output }}}}/result'",
        setting.path("count").display(),
        gate.display()
    ));
    let (first, second) = (setting.builder(), setting.builder());
    let open = move |line: BuildLine| {
        if let BuildLine::Waiting { text } = line {
            assert!(text.contains("`p`"));
            std::fs::write(&gate, "").unwrap();
        }
    };
    let (one, two) = tokio::join!(first.build(&peer, open.clone()), second.build(&peer, open));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.output.clone(), setting.count()), (two.output.clone(), 1));
    assert!(one.cached != two.cached);
}

#[tokio::test]
async fn a_cancelled_build_ends_its_tools_and_is_not_taken_for_done() {
    let setting = Setting::new();
    let pid_file = setting.path("pid");
    let slow = setting.peer(&format!("echo $$ > {}; echo up; exec sleep 600", pid_file.display()));
    let builder = setting.builder();
    let up = tokio::sync::Notify::new();
    tokio::select! {
        _ = builder.build(&slow, |line| if line == (BuildLine::Output { line: "up".into() }) { up.notify_one() }) => panic!(),
        () = up.notified() => {}
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let stat = Path::new("/proc").join(pid);
    for _ in 0..1000 {
        if !stat.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!stat.exists(), "the tool still runs");
    let quick = setting.counting();
    assert!(!build(&builder, &quick).await.unwrap().cached);
    let outputs = std::fs::read_dir(setting.path("cache/p")).unwrap().flatten().filter(|e| e.path().is_dir());
    assert_eq!(outputs.count(), 1, "the next build removes what a cancelled one left");
}

#[tokio::test]
async fn versions_are_probed_once_per_build_and_a_lost_one_is_noted() {
    let setting = Setting::new();
    let mut peer = setting.counting();
    let probes = setting.path("probes");
    let script = format!("echo x >> {}; echo library v1.85.1", probes.display());
    let run = |run: Vec<String>, pattern: &str| VersionProbe::Run { run, pattern: Some(pattern.into()) };
    peer.versions.insert("self".into(), VersionProbe::Fixed("0.1".into()));
    peer.versions.insert("lib".into(), run(vec!["sh".into(), "-c".into(), script], r"v(\S+)"));
    peer.versions.insert("content".into(), run(vec!["cat".into(), "{{ output }}/result".into()], ".*"));
    peer.versions.insert("lost".into(), run(vec!["echo".into(), "nothing here".into()], r"\d"));
    for cached in [false, true] {
        let built = build(&setting.builder(), &peer).await.unwrap();
        assert_eq!(built.cached, cached);
        let versions: Vec<_> = built.versions.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(versions, ["content=one", "lib=1.85.1", "self=0.1"]);
        assert!(built.notes.len() == 1 && built.notes[0].contains("`lost`"), "{:?}", built.notes);
    }
    assert_eq!(std::fs::read_to_string(probes).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_peer_without_a_build_has_versions_and_no_output() {
    let setting = Setting::new();
    let mut peer = setting.counting();
    peer.build = None;
    let tool = setting.tool("peer/here", "echo 4.2");
    assert!(tool.ends_with("peer/here"));
    peer.versions.insert("self".into(), VersionProbe::Run { run: vec!["./here".into()], pattern: None });
    let built = build(&setting.builder(), &peer).await.unwrap();
    assert_eq!((built.output, built.cached), (None, true));
    assert_eq!(built.versions["self"], "4.2");
}

#[tokio::test]
async fn inputs_and_templates_that_mean_nothing_are_errors() {
    let setting = Setting::new();
    let mut peer = setting.counting();
    peer.build.as_mut().unwrap().inputs.push("*.lock".into());
    let text = build(&setting.builder(), &peer).await.unwrap_err().to_string();
    assert!(text.contains("`*.lock`") && text.contains("correct the pattern"), "{text}");
    let unknown = setting.peer("echo {{ outptu }}");
    assert!(matches!(build(&setting.builder(), &unknown).await, Err(BuildError::Template { .. })));
    std::fs::write(setting.path("file"), "").unwrap();
    let builder = Builder::new(setting.path("file"), false, setting.spawner.clone());
    let text = build(&builder, &setting.counting()).await.unwrap_err().to_string();
    assert!(text.contains("/file/p") && text.contains("make it writable"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_filled_in_and_another_value_is_another_build() {
    let setting = Setting::new();
    let builder = setting.builder();
    let mut peer = setting.peer("echo '{{ vars.word }}' > '{{ output }}/result'");
    for word in ["one", "two"] {
        peer.vars.insert("word".into(), word.into());
        let built = build(&builder, &peer).await.unwrap();
        assert_eq!((result(&built).as_str(), built.cached), (format!("{word}\n").as_str(), false));
        assert!(build(&builder, &peer).await.unwrap().cached);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_only_looked_for_is_named_by_a_variable() {
    let setting = Setting::new();
    let tool = setting.tool("elsewhere", "echo version 1");
    let mut peer = setting.peer("");
    let install = Tool { version: vec!["--version".into()], install: "ask its authors".into() };
    let tools = IndexMap::from([("{{ vars.program }}".to_owned(), install)]);
    peer.build = Some(Build { run: Vec::new(), inputs: Vec::new(), tools, span: NOWHERE });
    peer.vars.insert("program".into(), tool.into());
    build(&setting.builder(), &peer).await.unwrap();

    peer.vars.insert("program".into(), "no-such-program".into());
    let error = build(&setting.builder(), &peer).await.unwrap_err().to_string();
    assert!(error.contains("`no-such-program`") && error.contains("ask its authors"), "{error}");
}
