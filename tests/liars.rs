//! Plugins that do something else than they are asked: each lie is caught as `not-effective`, by the
//! fact that it is about; a server cannot talk itself into a green run.

#[path = "support/run.rs"]
mod run;

use run::{PUT_GET, Place, ROOT, fact, text, toolchains};

/// A liar by plugin launch, asked for `axes` by a client of this program.
fn scenario(lie: &str, axes: &str) -> String {
    format!(
        "soupscen: 1
name: liars
peers:
  rust: {{ builtin: {{}} }}
  liar: {{ server: {{ plugin: {{ builtin: {{ args: [--as-broken, {lie}] }} }} }} }}
matrix:
  axes: {{ client: [rust], server: [rust, liar], launch: [plugin], {axes} }}
{PUT_GET}"
    )
}

/// The liar is red by one fact, of which this was asked and this was got; the honest server passes.
#[track_caller]
fn is_caught(lie: &str, axes: &str, name: &str, asked: &str, got: &str) {
    let place = Place::new();
    place.write("liars.yaml", &scenario(lie, axes));
    let (ran, results) = place.results("liars.yaml", &[]);
    let ran = ran.exits(1);
    assert_eq!(results.case(&["server=rust"])["verdict"], "passed", "{ran}");
    let case = results.case(&["server=liar"]);
    assert_eq!(case["verdict"], "not-effective", "{ran}");
    assert_eq!(fact(case, name), (asked, got), "{ran}");
    let why = text(&case["why"]);
    assert_eq!(why, format!("asked for {name} {asked}, got {got}"), "{ran}");
    ran.says(why);
}

#[test]
fn another_key() {
    is_caught("ignores-key", "tls: [auto], key: [p256]", "key", "p256", "p384");
    is_caught("ignores-key", "tls: [auto], key: [rsa-2048]", "key", "rsa-2048", "p384");
}

#[test]
fn no_client_certificate_under_auto() {
    is_caught("ignores-mutual", "tls: [auto]", "tls", "auto", "server");
}

#[test]
fn no_client_certificate_under_mutual() {
    is_caught("ignores-mutual", "tls: [mutual]", "tls", "mutual", "server");
}

#[test]
fn another_transport() {
    is_caught("ignores-transport", "tls: [auto], transport: [unix]", "transport", "unix", "tcp");
    is_caught("ignores-transport", "tls: [none], transport: [tcp]", "transport", "tcp", "unix");
}

#[test]
fn plaintext_is_never_taken_for_tls() {
    // Two that insist on TLS cannot meet a server without: red as a failure.
    for tls in ["auto", "server", "mutual"] {
        let place = Place::new();
        place.write("liars.yaml", &scenario("ignores-tls", &format!("tls: [{tls}]")));
        let (ran, results) = place.results("liars.yaml", &[]);
        assert_eq!(results.case(&["server=rust"])["verdict"], "passed", "{tls}: {ran}");
        assert_eq!(results.case(&["server=liar"])["verdict"], "failed", "{tls}: {ran}");
        ran.exits(1);
    }
    // pyvider's client goes on in plaintext where field 6 is empty: everything works, and it is a lie.
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let text = scenario("ignores-tls", "transport: [tcp], tls: [auto]")
        .replace("peers:\n", &format!("include: [{ROOT}/scenarios/peers/kv.yaml]\npeers:\n"))
        .replace("  rust: { builtin: {} }\n", "")
        .replace("client: [rust]", "client: [python]");
    place.write("liars.yaml", &text);
    let (ran, results) = place.results("liars.yaml", &["--require-peers"]);
    assert_eq!(results.case(&["server=rust"])["verdict"], "passed", "{ran}");
    let case = results.case(&["server=liar"]);
    assert_eq!((text_of(case, "verdict"), fact(case, "tls")), ("not-effective", ("auto", "none")), "{ran}");
    ran.exits(1);
}

fn text_of<'a>(case: &'a serde_json::Value, key: &str) -> &'a str {
    text(&case[key])
}

#[test]
fn where_a_difference_is_only_reported_it_is_no_failure() {
    let place = Place::new();
    let axes = "tls: [auto], key: { values: [p256], effective: { report: the server chooses } }";
    place.write("liars.yaml", &scenario("ignores-key", axes));
    let (ran, results) = place.results("liars.yaml", &[]);
    let case = results.case(&["server=liar"]);
    assert_eq!((text_of(case, "verdict"), fact(case, "key")), ("passed", ("p256", "p384")), "{ran}");
    ran.exits(0).says("asked for p256, got p384").says("the server chooses");
}

#[test]
fn a_lie_that_is_known_is_green_and_one_that_ended_is_not() {
    let rule = |server: &str| {
        format!(
            "expectations:
  - {{ id: serves-what-it-likes, when: server == {server}, outcome: not-effective, fact: key, reason: it makes its own }}
"
        )
    };
    let place = Place::new();
    place.write("liars.yaml", &(scenario("ignores-key", "tls: [auto], key: [p256]") + &rule("liar")));
    let (ran, results) = place.results("liars.yaml", &[]);
    assert_eq!(results.case(&["server=liar"])["verdict"], "known", "{ran}");
    ran.exits(0);
    place.write("liars.yaml", &(scenario("ignores-key", "tls: [auto], key: [p256]") + &rule("rust")));
    let (ran, results) = place.results("liars.yaml", &[]);
    assert_eq!(results.case(&["server=rust"])["verdict"], "unexpected-pass", "{ran}");
    assert_eq!(results.case(&["server=liar"])["verdict"], "not-effective", "{ran}");
    ran.exits(1);
    // A lie about something else is not covered.
    place.write("liars.yaml", &(scenario("ignores-mutual", "tls: [auto], key: [p256]") + &rule("liar")));
    let (ran, results) = place.results("liars.yaml", &[]);
    assert_eq!(results.case(&["server=liar"])["verdict"], "not-effective", "{ran}");
    ran.exits(1);
}
