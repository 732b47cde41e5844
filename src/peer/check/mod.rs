//! Proves that a driver meets the contract of `docs/driver-contract.md`: talks to it as the page
//! says, and tells rule by rule whether it holds. Used by `soupscen driver check`.
//!
//! `talk` is the dialog, line by line and without the engine's own message types, so that a mistake
//! in those is not made twice · `mirror` is the server that clients are held against, `stage` the
//! one for streams and `open` a stream on it · `life`, `client`, `stream`, `server`, `options`,
//! `plugin` are the rules.

mod client;
mod life;
mod mirror;
mod open;
mod options;
mod plugin;
mod server;
mod stage;
mod stream;
mod talk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::Value;

use self::talk::{Account, Talk};
use crate::outcome::evidence::Side;
use crate::pki::{Authority, Identity, PkiError};
use crate::process::scratch::Scratch;
use crate::process::{Program, Spawner};

/// What a request may take here, unless the rule is about time.
const WITHIN: Duration = Duration::from_secs(5);
/// What the contract gives a driver over a deadline.
const SLACK: Duration = crate::peer::driver::DRIVER_SLACK;

/// The services that the rules can be checked with. Both begin with the same two methods, and a
/// request of one is, byte for byte, a request of the other.
const SERVICES: [(&str, &str); 2] = [("service.kv", "proto.KV"), ("service.stock", "soup.stock.v1.Stock")];

/// How a rule came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Held,
    /// It does not: what was expected, and what came.
    Broken(String),
    /// It does not apply: why.
    Skipped(String),
}

/// One rule of the contract, as it came out.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name, stable.
    pub id: &'static str,
    /// The rule, as a sentence.
    pub about: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What it took.
    pub elapsed: Duration,
}

/// Why a check could not be done at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No place for files.
    #[error("no temporary folder can be made: {0}")]
    Folder(#[from] std::io::Error),
    /// No certificates.
    #[error("certificates for the check cannot be made: {0}")]
    Pki(#[from] PkiError),
    /// The program does not start, or does not say `hello`.
    #[error("{0}")]
    Start(String),
}

/// Why a rule does not hold, or does not apply.
enum Miss {
    Broken(String),
    Skipped(String),
}

type Outcome = Result<(), Miss>;

fn broken<T>(text: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Broken(text.into()))
}

fn skipped<T>(text: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Skipped(text.into()))
}

/// A rule: what it says, what a driver must provide for it to apply, and how it is checked.
struct Rule {
    id: &'static str,
    about: &'static str,
    /// A role, and a capability of it; an empty one is the role itself.
    needs: Option<(Side, &'static str)>,
    check: for<'a> fn(&'a mut Bench) -> BoxFuture<'a, Outcome>,
}

/// Everything that rules work with.
struct Bench {
    program: Program,
    spawner: Spawner,
    scratch: Scratch,
    authority: Authority,
    /// An authority that no file of the others is signed by.
    stranger: Arc<Identity>,
    talk: Option<Talk>,
    hello: Value,
    account: Arc<Account>,
    next: u64,
}

impl Bench {
    /// The dialog that rules share; a new one where the last ended.
    async fn talk(&mut self) -> Result<&mut Talk, Miss> {
        let ended = self.talk.as_ref().is_none_or(Talk::has_ended);
        if ended {
            self.talk = Some(self.start().await?);
        }
        self.talk.as_mut().map_or_else(|| broken("the driver could not be started again"), Ok)
    }

    /// A driver of its own, greeted.
    async fn start(&self) -> Result<Talk, Miss> {
        self.start_with(&[]).await
    }

    /// The same, run by another program: its words come first.
    async fn start_with(&self, by: &[&str]) -> Result<Talk, Miss> {
        let argv = by.iter().map(|&word| word.to_owned()).chain(self.program.argv.iter().cloned()).collect();
        let program = Program { argv, ..self.program.clone() };
        let mut talk = Talk::start(&self.spawner, &program, &self.account).await.map_err(Miss::Broken)?;
        talk.greet().await?;
        Ok(talk)
    }

    /// An id that was never used.
    fn fresh(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// An empty folder.
    fn folder(&mut self) -> Result<PathBuf, Miss> {
        let name = self.fresh("f");
        self.scratch.folder(&name).or_else(|e| broken(format!("the check has no folder to give: {e}")))
    }

    fn provides(&self, side: Side, capability: &str) -> bool {
        let role = &self.hello["roles"][role(side)];
        if capability.is_empty() {
            return role.is_object();
        }
        role["provides"].as_array().is_some_and(|all| all.iter().any(|c| c == capability))
    }

    /// The service to check a role with, by its protobuf name.
    fn service(&self, side: Side) -> Result<&'static str, Miss> {
        let found = SERVICES.iter().find(|(capability, _)| self.provides(side, capability));
        let names = SERVICES.map(|(capability, _)| capability).join(" and ");
        found.map_or_else(|| skipped(format!("it provides neither of {names} here")), |(_, name)| Ok(*name))
    }
}

const fn role(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

/// What a driver said of itself, for people: `soup-go 0.1.0 (go 1.26): client, server`.
#[must_use]
pub fn introduce(hello: &Value) -> String {
    let versions = hello["versions"].as_object();
    let own = versions.and_then(|v| v.get("self")).and_then(Value::as_str).unwrap_or_default();
    let others: Vec<_> = versions
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "self")
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
        .collect();
    let roles: Vec<_> =
        [Side::Client, Side::Server].map(role).into_iter().filter(|r| hello["roles"][r].is_object()).collect();
    let name = hello["peer"].as_str().filter(|n| !n.is_empty()).unwrap_or("a driver without a name");
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    format!("{} {own}{others}: {}", name, roles.join(" and ")).replace(" :", ":")
}

/// The names of all rules, in order.
pub fn rules() -> impl Iterator<Item = &'static str> {
    all().map(|rule| rule.id)
}

fn all() -> impl Iterator<Item = &'static Rule> {
    [
        life::RULES,
        server::RULES,
        options::OF_SERVERS,
        client::RULES,
        stream::RULES,
        options::OF_CLIENTS,
        plugin::RULES,
        life::LAST,
    ]
    .into_iter()
    .flatten()
}

/// Checks a driver, telling of its hello and of each rule as it is known; only rules that `wanted`
/// names.
///
/// # Errors
/// When nothing can be checked: no folder, no certificates, or a program that does not start.
pub async fn check(
    program: Program,
    spawner: Spawner,
    wanted: impl Fn(&str) -> bool,
    mut on_hello: impl FnMut(&Value),
    mut on_line: impl FnMut(&Line),
) -> Result<(), CheckError> {
    let scratch = Scratch::new()?;
    let authority = Authority::new(Some(scratch.path()))?;
    let elsewhere = scratch.folder("stranger")?;
    let stranger = Authority::new(Some(&elsewhere))?.root();
    let mut program = Program { stdin: true, ..program };
    program.env.push((plugin::SECRET.to_owned(), "1".to_owned()));
    let account = Arc::new(Account::default());
    let mut talk = Talk::start(&spawner, &program, &account).await.map_err(CheckError::Start)?;
    let hello = match talk.greet().await {
        Ok(hello) => hello,
        Err(Miss::Broken(text) | Miss::Skipped(text)) => return Err(CheckError::Start(text)),
    };
    on_hello(&hello);
    let talk = Some(talk);
    let mut bench = Bench { program, spawner, scratch, authority, stranger, talk, hello, account, next: 0 };
    for rule in all().filter(|rule| wanted(rule.id)) {
        let started = Instant::now();
        let verdict = match rule.needs {
            // All that a client dials for; one that only launches plugins would be waited for.
            Some((Side::Client, _))
                if bench.provides(Side::Client, "")
                    && !rule.id.starts_with("launch")
                    && !bench.provides(Side::Client, "launch.direct") =>
            {
                Verdict::Skipped("its client does not provide launch.direct".to_owned())
            }
            Some((side, "")) if !bench.provides(side, "") => {
                Verdict::Skipped(format!("it does not play the {}", role(side)))
            }
            Some((side, needed)) if !bench.provides(side, needed) => {
                Verdict::Skipped(format!("its {} does not provide {needed}", role(side)))
            }
            _ => match (rule.check)(&mut bench).await {
                Ok(()) => Verdict::Held,
                Err(Miss::Broken(text)) => Verdict::Broken(text),
                Err(Miss::Skipped(text)) => Verdict::Skipped(text),
            },
        };
        on_line(&Line { id: rule.id, about: rule.about, verdict, elapsed: started.elapsed() });
    }
    Ok(())
}
