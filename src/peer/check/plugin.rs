//! Rules on `launch`: a driver's own plugin library as the host of a go-plugin server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt as _;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::client::{get, value_of};
use super::talk::Talk;
use super::{Bench, Miss, Outcome, Rule, SLACK, WITHIN, broken, skipped};
use crate::handshake::Cookie;
use crate::outcome::evidence::Side;

/// Budget for a launched plugin to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// Budget for a driver whose stdin has ended to take its plugins along.
const GONE_WITHIN: Duration = Duration::from_secs(3);
/// Runs a driver, and stays for longer than that: what it leaves is swept only when this has ended.
const STAYING: &str = r#""$@"; status=$?; sleep 4; exit $status"#;
/// What that takes in all.
const STAYED_WITHIN: Duration = Duration::from_secs(8);
/// A variable of the driver that no plugin may see.
pub(super) const SECRET: &str = "CHECK_DRIVER_SECRET";
/// Writes the environment to `$0.env`, and holds a pipe open for as long as the plugin lives.
const WRAPPER: &str = r#"env > "$0.env"; exec 9> "$0.fifo"; exec "$@""#;

const NEEDS: Option<(Side, &str)> = Some((Side::Client, "launch.plugin"));

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "launch",
        about: "a plugin is started, called under AutoMTLS, and gone after `killed`",
        needs: Some((Side::Client, "tls.auto")),
        check: |bench| launch(bench).boxed(),
    },
    Rule {
        id: "launch.environment",
        about: "a plugin gets `env` and PATH, HOME, TMPDIR, and nothing else of the driver's environment",
        needs: NEEDS,
        check: |bench| environment(bench).boxed(),
    },
    Rule {
        id: "launch.exit",
        about: "a plugin that ends without a line is `failed`, `phase: launch`",
        needs: NEEDS,
        check: |bench| exit(bench).boxed(),
    },
    Rule {
        id: "launch.silence",
        about: "a plugin that prints nothing is `failed` when the deadline has passed",
        needs: NEEDS,
        check: |bench| silence(bench).boxed(),
    },
    Rule {
        id: "launch.outlive",
        about: "no plugin outlives the end of the driver's stdin",
        needs: NEEDS,
        check: |bench| outlive(bench).boxed(),
    },
];

/// A plugin that tells of its environment and its end.
struct Plugin {
    request: Value,
    base: PathBuf,
    alive: pipe::Receiver,
}

impl Plugin {
    fn new(bench: &mut Bench, command: &[&str], auto_mtls: bool, within: Duration) -> Result<Self, Miss> {
        if bench.service(Side::Client)? != "proto.KV" {
            return skipped("the built-in plugin serves proto.KV, which it does not call");
        }
        let folder = bench.folder()?;
        let base = folder.join("plugin");
        let fifo = folder.join("plugin.fifo");
        let no_pipe = |e: &dyn std::fmt::Display| Miss::Broken(format!("the check has no pipe: {e}"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).map_err(|e| no_pipe(&e))?;
        let alive = pipe::OpenOptions::new().open_receiver(&fifo).map_err(|e| no_pipe(&e))?;
        let mut argv = vec!["sh".into(), "-c".into(), WRAPPER.into(), base.to_string_lossy().into_owned()];
        argv.extend(command.iter().map(|&word| word.to_owned()));
        let cookie = Cookie::basic();
        let request = json!({
            "type": "launch", "id": bench.fresh("l"), "argv": argv, "env": [["CHECK_GIVEN", "yes"]],
            "cookie": {"key": cookie.key, "value": cookie.value}, "protocol_versions": [1],
            "auto_mtls": auto_mtls, "tls": {"mode": if auto_mtls { "auto" } else { "none" }},
            "folder": folder, "stdio": false, "deadline_ms": within.as_millis(),
        });
        Ok(Self { request, base, alive })
    }

    /// The built-in plugin.
    fn honest(bench: &mut Bench) -> Result<Self, Miss> {
        let program = std::env::current_exe().or_else(|e| broken(format!("this program's path is not known: {e}")))?;
        let auto = bench.provides(Side::Client, "tls.auto");
        let program = program.to_string_lossy().into_owned();
        Self::new(bench, &[&program, "serve", "kv", "--tls", if auto { "auto" } else { "none" }], auto, WITHIN)
    }

    fn id(&self) -> &str {
        self.request["id"].as_str().unwrap_or_default()
    }

    /// Waits until nobody holds the pipe any more: the plugin, and all that it started, is gone.
    async fn gone(&mut self, within: Duration) -> Outcome {
        let mut rest = Vec::new();
        match tokio::time::timeout(within, self.alive.read_to_end(&mut rest)).await {
            Ok(_) => Ok(()),
            Err(_) => broken(format!("expected that the plugin is gone within {within:?}\ngot      it still runs")),
        }
    }
}

async fn up(talk: &mut Talk, plugin: &Plugin) -> Outcome {
    talk.expect("launched", &plugin.request, WITHIN + SLACK).await.map(drop)
}

async fn launch(bench: &mut Bench) -> Outcome {
    let mut plugin = Plugin::honest(bench)?;
    up(bench.talk().await?, &plugin).await?;
    let request = get(bench, plugin.id(), "check-absent", WITHIN)?;
    let result = bench.talk().await?.expect("result", &request, WITHIN + SLACK).await?;
    if value_of(&result).is_ok() || result["status"]["code"] != "NOT_FOUND" {
        return broken(format!("expected NOT_FOUND for a key that was never put\ngot      {}", result["status"]));
    }
    let kill = json!({"type": "kill", "id": plugin.id(), "grace_ms": GRACE.as_millis()});
    bench.talk().await?.expect("killed", &kill, GRACE + SLACK).await?;
    plugin.gone(SLACK).await
}

async fn environment(bench: &mut Bench) -> Outcome {
    let plugin = Plugin::honest(bench)?;
    up(bench.talk().await?, &plugin).await?;
    let names = environment_of(&plugin.base).await?;
    let has = |name: &str| names.iter().any(|(n, _)| n == name);
    let kill = json!({"type": "kill", "id": plugin.id(), "grace_ms": GRACE.as_millis()});
    bench.talk().await?.expect("killed", &kill, GRACE + SLACK).await?;
    if !names.contains(&("CHECK_GIVEN".into(), "yes".into())) {
        return broken("expected CHECK_GIVEN=yes, which was in `env`\ngot      none");
    }
    if !has("PATH") {
        return broken("expected PATH\ngot      none");
    }
    if has(SECRET) {
        return broken(format!("expected nothing else of the driver's environment\ngot      {SECRET}"));
    }
    Ok(())
}

async fn environment_of(base: &Path) -> Result<Vec<(String, String)>, Miss> {
    let mut path = base.as_os_str().to_owned();
    path.push(".env");
    let text = tokio::fs::read(path)
        .await
        .or_else(|e| broken(format!("expected that the plugin was started by its `argv`\ngot      {e}")))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

async fn failed(bench: &mut Bench, command: &[&str], within: Duration) -> Outcome {
    let mut plugin = Plugin::new(bench, command, false, within)?;
    let answer = bench.talk().await?.expect("failed", &plugin.request, within + SLACK).await?;
    if answer["phase"] != "launch" {
        return broken(format!("expected `phase: launch`\ngot      {}", answer["phase"]));
    }
    plugin.gone(GRACE + SLACK).await
}

async fn exit(bench: &mut Bench) -> Outcome {
    failed(bench, &["sh", "-c", "exit 3"], WITHIN).await
}

async fn silence(bench: &mut Bench) -> Outcome {
    failed(bench, &["sh", "-c", "exec sleep 60"], Duration::from_millis(500)).await
}

async fn outlive(bench: &mut Bench) -> Outcome {
    let mut plugin = Plugin::honest(bench)?;
    let mut talk = bench.start_with(&["sh", "-c", STAYING, "sh"]).await?;
    up(&mut talk, &plugin).await?;
    talk.hang_up();
    plugin.gone(GONE_WITHIN).await?;
    talk.end(STAYED_WITHIN).await
}
