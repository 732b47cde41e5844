//! The expression language: what it accepts, what it means, how it complains.

use serde_json::{Value, json};

use super::*;
use crate::scenario::model::AxisValue;

const FILE: SourceId = SourceId(0);

fn expr(text: &str) -> Expr {
    parse(FILE, 0, text).unwrap_or_else(|errors| panic!("{text}: {errors:#?}"))
}

struct Fixed;

impl Lookup for Fixed {
    fn get(&self, name: &str) -> Option<Value> {
        Some(match name {
            "client" => json!("go"),
            "server" => json!("soup-py"),
            "server.lang" => json!("python"),
            "key" => json!("p256"),
            "key.bits" => json!(256),
            "key.curve" => json!("p256"),
            "tls" => json!("none"),
            "tls_version" => json!("1.2"),
            "script" => json!("put-get"),
            "id" => json!("kv/put-get[client=go,server=soup-py]"),
            "grade" => json!("1.9"),
            _ => return None,
        })
    }
}

#[test]
fn meanings() {
    for (text, expected) in [
        ("client == go", true),
        ("client != go", false),
        ("client == \"go\"", true),
        ("client in [rust, go]", true),
        ("client in [rust, go,]", true),
        ("client not in [rust, go]", false),
        ("not client == rust", true),
        ("key == secp256r1", true),
        ("key in [P-256, rsa_2048]", true),
        ("key.curve == prime256v1", true),
        ("key.bits >= 256 and key.bits < 384", true),
        ("key.bits > 256", false),
        ("key.bits == 256", true),
        ("tls_version < 1.3", true),
        ("tls_version == TLSv1.2", true),
        ("grade < 1.10", true),
        ("grade >= v1.9.0", true),
        ("tls == disabled", true),
        ("group == unset", true),
        ("group != unset", false),
        ("group != x25519", true),
        ("group in [x25519, unset]", true),
        ("client == unset", false),
        ("server.lang == python and server ~ \"soup-*\"", true),
        ("id ~ \"kv/*[client=go,*\"", true),
        ("script == put-get", true),
        ("true", true),
        ("false or client == go", true),
        // `and` binds before `or`, `not` before both.
        ("client == go or client == rust and tls == mutual", true),
        ("(client == go or client == rust) and tls == mutual", false),
        ("not client == rust and not client == python", true),
        ("not (client == go or client == rust)", false),
        ("client\n  ==\tgo", true),
    ] {
        assert_eq!(expr(text).eval(&Fixed), expected, "{text}");
        let printed = expr(text).ast().to_string();
        assert_eq!(expr(&printed).eval(&Fixed), expected, "{text} printed as {printed}");
    }
}

#[test]
fn names_are_axes() {
    assert_eq!(
        expr("server.lang == go and client == go or server == x and id ~ \"*\" and case.key == a").names(),
        ["case.key", "client", "id", "server"]
    );
}

#[test]
fn mistakes_of_grammar_have_places_and_ways_out() {
    let deep = format!("{}client == go{}", "(".repeat(70), ")".repeat(70));
    let nots = format!("{}client == go", "not ".repeat(70));
    let long = format!("client == {}", "x".repeat(5000));
    for (text, at, message, help) in [
        ("", 0..0, "an expression is empty", "client == go"),
        ("client = go", 7..8, "`=` has no meaning", "write `==`"),
        ("client == go && tls == none", 13..15, "`&&` has no meaning", "write `and`"),
        ("client", 0..6, "`client` is not compared", "client == …"),
        ("client ==", 9..9, "a value is missing before the end", "quote"),
        ("client == and", 10..13, "a value is missing before `and`", "quote"),
        ("client in go", 10..12, "`[` is missing before `go`", "[a, b]"),
        ("client in []", 11..12, "a list is empty", "at least one"),
        ("client in [go rust]", 14..18, "`,` or `]` is missing before `rust`", ""),
        ("client == go)", 12..13, "`)` closes nothing", ""),
        ("(client == go", 13..13, "`)` is missing before the end", ""),
        ("client == go tls == none", 13..16, "`tls` follows a complete comparison", "`and` or `or`"),
        ("client == go == rust", 13..15, "comparisons do not chain", "`and`"),
        ("\"go\" == client", 0..4, "starts with a name", "on the left"),
        ("client == \"go", 10..13, "a quoted text is not closed", "end it with \""),
        ("client not go", 11..13, "`in` is missing after `not`", "not in"),
        ("client == ä§", 12..14, "`§` has no meaning", "quote"),
        (&deep, 64..65, "nests deeper than 64", "flatter"),
        (&nots, 256..259, "nests deeper than 64", "flatter"),
        (&long, 0..5010, "has 5010 bytes, at most 4096", "split"),
    ] {
        let errors = parse(FILE, 100, text).expect_err(text);
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(error.message.contains(message), "{text}: {}", error.message);
        let span = error.labels[0].span;
        assert_eq!((span.start - 100..span.end - 100), at, "{text}: {}", error.message);
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {:?}", error.help);
    }
}

#[test]
fn texts_that_are_elsewhere_tell_the_column() {
    let span = Span { source: FILE, start: 5, end: 9 };
    let error = parse_at(span, "client == gö and\n tls = none").expect_err("it has `=`").remove(0);
    assert_eq!(error.labels[0].span, span);
    assert_eq!(
        error.message,
        "`=` has no meaning in an expression (column 23 of the expression `client == gö and tls = none`)"
    );
}

fn domain() -> Domain {
    let mut domain = Domain::builtin();
    for (peer, lang) in [("go", "go"), ("rust", "rust"), ("soup-py", "python")] {
        let facts =
            std::collections::BTreeMap::from([("lang".to_owned(), json!(lang)), ("name".to_owned(), json!(peer))]);
        domain.value("client", peer, facts.clone());
        domain.value("server", peer, facts);
    }
    domain.component("client", "grpcio");
    domain.value("service", "kv", std::collections::BTreeMap::new());
    domain.value("script", "put-get", std::collections::BTreeMap::new());
    let span = Span { source: FILE, start: 0, end: 0 };
    let mine = AxisValue {
        name: "mine".into(),
        facts: [("mode".to_owned(), json!("mutual"))].into(),
        files: None,
        host: None,
        means: "mutual".into(),
        span,
    };
    domain.axis_value("tls", &mine);
    domain.value("size", "small", [("bytes".to_owned(), json!(10))].into());
    domain.value("size", "large", [("bytes".to_owned(), json!(4_000_000))].into());
    domain
}

#[test]
fn what_is_known_is_accepted() {
    for text in [
        "client == go and server.lang == python",
        "tls == mine or tls.mode == mtls",
        "key in [p256, secp521r1, auto, unset]",
        "key.algorithm in [ec, rsa]",
        "size.bytes > 1000 and size != unset",
        "client ~ \"soup-*\"",
        "tls_version >= 1.2",
        "id ~ \"kv/*\" and case.key == 0123456789abcdef and case.slug != x",
        "script == put-get",
    ] {
        assert_eq!(expr(text).check(&domain()), [], "{text}");
    }
}

#[test]
fn what_is_unknown_is_said_with_what_was_meant() {
    for (text, code, at, message, help) in [
        ("tsl == none", "unknown-axis", 0..3, "unknown axis `tsl`", "did you mean `tls`?"),
        ("client == goo", "unknown-value", 10..13, "unknown value `goo` of axis `client`", "did you mean `go`?"),
        ("client != goo", "unknown-value", 10..13, "unknown value `goo`", "known values: go, rust, soup-py"),
        ("key in [p256, p257]", "unknown-value", 14..18, "unknown value `p257`", "did you mean `p256`?"),
        ("client == server", "unknown-value", 10..16, "unknown value `server`", "never another axis"),
        ("server.lnag == go", "unknown-fact", 0..11, "no value of `server` has a fact `lnag`", "did you mean `lang`?"),
        ("server.lang == cobol", "unknown-value", 15..20, "`server.lang` is never `cobol`", "python"),
        ("script.x == 1", "unknown-fact", 0..8, "no value of `script` has a fact `x`", "has no facts"),
        ("key.bits > 9000", "never-holds", 11..15, "`key.bits > 9000` can never hold", "4096"),
        ("key.bits > big", "never-holds", 11..14, "`big` is neither", "=="),
        ("client > go", "never-holds", 0..6, "`client` has no order", "in"),
        ("id < 5", "never-holds", 0..2, "`id` has no order", "~"),
        ("client ~ \"x*\"", "unknown-value", 9..13, "no value of `client` matches `x*`", "known values"),
        (
            "client.grpcio < \"1.90\"",
            "version-in-expression",
            0..13,
            "only known when the peer was probed",
            "`versions: { client.grpcio: \"<1.90\" }`",
        ),
        ("client == \"unset\"", "unknown-value", 10..17, "unknown value `unset`", ""),
    ] {
        let errors = expr(text).check(&domain());
        let [error] = errors.as_slice() else { panic!("{text}: {errors:?}") };
        assert_eq!(error.code, code, "{text}: {}", error.message);
        let span = error.labels[0].span;
        assert_eq!(span.start..span.end, at, "{text}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {:?}", error.help);
    }
    assert_eq!(expr("clint == go and server == goo or key.bit > 1").check(&domain()).len(), 3, "all at once");
}

#[test]
fn conditions_that_make_the_cases_cannot_ask_for_them() {
    let errors = expr("id ~ \"kv/*\"").check(&domain().without_case());
    assert_eq!(errors[0].code, "unknown-axis");
}
