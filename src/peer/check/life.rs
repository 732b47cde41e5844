//! Rules on a driver's greeting, its manners and its end.

use std::future::ready;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Value, json};

use super::talk::{PROBE, short};
use super::{Bench, Outcome, Rule, WITHIN, broken};
use crate::outcome::evidence::Side;
use crate::peer::driver::message::CONTRACT;

/// What the contract gives a driver to end.
const END_WITHIN: Duration = Duration::from_secs(2);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "hello",
        about: "`hello` is answered with contract, name, versions and roles; unknown fields are ignored",
        needs: None,
        check: |bench| ready(hello(&bench.hello)).boxed(),
    },
    Rule {
        id: "hello.probe",
        about: "a capability that does not exist is not claimed",
        needs: None,
        check: |bench| ready(probe(&bench.hello)).boxed(),
    },
    Rule {
        id: "unknown-type",
        about: "an unknown `type` is answered `error` with `kind: unsupported`",
        needs: None,
        check: |bench| unknown_type(bench).boxed(),
    },
    Rule {
        id: "bye",
        about: "`bye` stops all: exit status 0 within 2 s",
        needs: None,
        check: |bench| bye(bench).boxed(),
    },
    Rule {
        id: "end-of-stdin",
        about: "the end of stdin stops all: exit status 0 within 2 s",
        needs: None,
        check: |bench| end_of_stdin(bench).boxed(),
    },
];

/// What is known only when all else was done.
pub(super) const LAST: &[Rule] = &[
    Rule {
        id: "stdout",
        about: "stdout has nothing but messages",
        needs: None,
        check: |bench| ready(clean(&bench.account.stray_lines, "no message")).boxed(),
    },
    Rule {
        id: "one-answer",
        about: "every request gets exactly one answer",
        needs: None,
        check: |bench| {
            if let Some(mut talk) = bench.talk.take() {
                talk.settle();
            }
            ready(clean(&bench.account.stray_answers, "an answer that nothing was waiting for")).boxed()
        },
    },
];

fn hello(hello: &Value) -> Outcome {
    if hello["contract"] != CONTRACT {
        return broken(format!("expected `contract: {CONTRACT}`\ngot      {}", hello["contract"]));
    }
    if hello["peer"].as_str().is_none_or(str::is_empty) {
        return broken("expected its name in `peer`\ngot      none");
    }
    if hello["versions"].as_object().is_none_or(serde_json::Map::is_empty) {
        return broken("expected the versions of its libraries in `versions`\ngot      none");
    }
    let roles = [Side::Client, Side::Server].map(super::role);
    let lists = |r: &&str| hello["roles"][r]["provides"].as_array().is_some_and(|p| p.iter().all(Value::is_string));
    if !roles.iter().any(lists) {
        return broken("expected `roles` with a client or a server, each with a list `provides`\ngot      neither");
    }
    match hello["codec"].as_str() {
        Some("generated" | "raw") => Ok(()),
        _ => broken(format!("expected `codec: generated` or `raw`\ngot      {}", hello["codec"])),
    }
}

fn probe(hello: &Value) -> Outcome {
    let claims =
        |side| hello["roles"][super::role(side)]["provides"].as_array().is_some_and(|p| p.iter().any(|c| c == PROBE));
    if claims(Side::Client) || claims(Side::Server) {
        return broken(format!(
            "expected that it does not claim `{PROBE}`, which the `probe` of `hello` named\ngot      the claim"
        ));
    }
    Ok(())
}

async fn unknown_type(bench: &mut Bench) -> Outcome {
    let id = bench.fresh("u");
    let answer = bench.talk().await?.ask(&json!({"type": "no-such-type", "id": id}), WITHIN).await?;
    if answer["type"] == "error" && answer["kind"] == "unsupported" {
        return Ok(());
    }
    broken(format!("expected `error` with `kind: unsupported`\ngot      {}", short(&answer.to_string())))
}

/// A driver with something to stop, where it can have that.
async fn busy(bench: &mut Bench) -> Result<super::Talk, super::Miss> {
    let mut talk = bench.start().await?;
    if let Ok(service) = bench.service(Side::Server) {
        let transport = super::server::transport(bench);
        let request = super::server::plain(bench, service, transport)?;
        talk.expect("serving", &request, WITHIN).await?;
    }
    Ok(talk)
}

async fn bye(bench: &mut Bench) -> Outcome {
    let mut talk = busy(bench).await?;
    talk.say(&json!({"type": "bye"})).await?;
    talk.end(END_WITHIN).await
}

async fn end_of_stdin(bench: &mut Bench) -> Outcome {
    let mut talk = busy(bench).await?;
    talk.hang_up();
    talk.end(END_WITHIN).await
}

fn clean(strays: &std::sync::Mutex<Vec<String>>, what: &str) -> Outcome {
    let strays = strays.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    match strays.first() {
        None => Ok(()),
        Some(first) => broken(format!("expected none\ngot      {what}: {first}")),
    }
}
