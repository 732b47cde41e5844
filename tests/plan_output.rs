//! What `soupscen plan` writes.

mod plan_support;

use std::io::{self, Write};

use plan_support::Draft;
use semver::VersionReq;
use serde_json::Value;
use soupscen::cli::plan::{Style, print};
use soupscen::outcome::Phase;
use soupscen::plan::{Plan, Selection};

fn plan() -> Plan {
    let mut draft = Draft::new();
    draft.peer("python", &["*"], &["kv", "tls.none"]);
    draft
        .axis("client", &["go", "python"])
        .axis("server", &["go", "python"])
        .axis("tls", &["none", "mutual"])
        .axis("key", &["p256"]);
    draft.exclude("client == go and server == go and tls == none");
    let rule = draft.failed_at("p521", "client == python and server == go and tls == mutual", Phase::Tls);
    rule.versions.insert("client.grpcio".into(), VersionReq::parse("<=1.85.1").unwrap());
    draft.plan()
}

fn printed(style: &Style, selection: &Selection) -> (u64, String) {
    let mut out = Vec::new();
    let cases = print(&plan(), selection, style, false, &mut out).unwrap();
    (cases, String::from_utf8(out).unwrap())
}

#[test]
fn a_list_has_what_is_expected_and_what_was_left_out() {
    let (cases, text) = printed(&Style::List, &Selection::default());
    assert_eq!(cases, 7);
    insta::assert_snapshot!(text, @r"
    kv/put-get[client=go,server=go,tls=mutual]  passed
    kv/put-get[client=go,server=python,tls=none]  passed
    kv/put-get[client=go,server=python,tls=mutual]  unsupported: server `python` has no capability `tls.mutual`; server `python` has no capability `key.p256`
    kv/put-get[client=python,server=go,tls=none]  passed
    kv/put-get[client=python,server=go,tls=mutual]  known: failed at tls (p521, client.grpcio <=1.85.1)
    kv/put-get[client=python,server=python,tls=none]  passed
    kv/put-get[client=python,server=python,tls=mutual]  unsupported: server `python` has no capability `tls.mutual`; server `python` has no capability `key.p256`
    kv: 7 cases, 5 to run, 2 unsupported, 1 known
      1 left out by exclude `client == go and server == go and tls == none` (kv.yaml:21): not client == go and server == go and tls == none
    ");
}

#[test]
fn counts_are_without_cases() {
    let selection = Selection { cases: vec!["*server=go*".into()], ..Selection::default() };
    let (cases, text) = printed(&Style::Count, &selection);
    assert_eq!(cases, 3);
    insta::assert_snapshot!(text, @r"
    kv: 3 cases, 3 to run, 0 unsupported, 1 known (selected from 7)
      1 left out by exclude `client == go and server == go and tls == none` (kv.yaml:21): not client == go and server == go and tls == none
    ");
}

#[test]
fn json_is_a_line_for_the_plan_and_one_per_case() {
    let (cases, text) = printed(&Style::Json, &Selection::default());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, cases + 1);
    assert_eq!((&lines[0]["type"], &lines[0]["counts"]["unsupported"]), (&"plan".into(), &2.into()));
    assert_eq!(lines[0]["exclusions"][0]["kind"], "exclude");
    assert_eq!(lines[0]["rules"][0]["cases"], 1);
    let known = lines.iter().find(|line| line["expected"] == "known").unwrap();
    assert_eq!(known["id"], "kv/put-get[client=python,server=go,tls=mutual]");
    assert_eq!(known["rules"][0]["versions"]["client.grpcio"], "<=1.85.1");
    assert_eq!(known["axes"]["key"], "p256");
    let unsupported = lines.iter().find(|line| line["expected"] == "unsupported").unwrap();
    assert_eq!(unsupported["missing"][0]["capability"], "tls.mutual");
    assert_eq!(lines.iter().filter(|line| line["expected"] == "passed").count(), 4);
}

#[test]
fn why_is_about_a_case_or_about_a_row_that_is_none() {
    let all = Selection::default();
    let (cases, text) = printed(&Style::Why("*client=python,server=go,tls=mutual]".into()), &all);
    assert_eq!(cases, 1);
    insta::assert_snapshot!(text, @r"
    kv/put-get[client=python,server=go,tls=mutual]  known: failed at tls (p521, client.grpcio <=1.85.1)
      key 48f38e6c8945ba33, slug put-get-python-48f38e6c8945ba33
      client = python (kv.yaml:11)
      server = go (kv.yaml:13)
      service = kv (kv.yaml:1)
      tls = mutual (kv.yaml:17)
      key = p256 (kv.yaml:20), applies where `tls.mode in [auto, server, mutual]`
      script = put-get (kv.yaml:24)
      not left out by exclude `client == go and server == go and tls == none` (kv.yaml:21), for want of `client == go`, `tls == none`
      service asks client `python` for `service.kv`: provided by `*` (kv.yaml:3)
      service asks server `go` for `service.kv`: provided by `*` (kv.yaml:8)
      tls asks client `python` for `tls.mutual`: provided by `*` (kv.yaml:3)
      tls asks server `go` for `tls.mutual`: provided by `*` (kv.yaml:8)
      key asks server `go` for `key.p256`: provided by `*` (kv.yaml:8)
      rule `p521` (kv.yaml:22) expects failed at tls within client.grpcio <=1.85.1 where `client == python and server == go and tls == mutual`: reason of p521
    ");
    let (rows, text) = printed(&Style::Why("kv/put-get[client=go,server=go,tls=none]".into()), &all);
    assert_eq!(rows, 1);
    insta::assert_snapshot!(text, @r"
    kv/put-get[client=go,server=go,tls=none]  no case of the plan
      key 65ff589ea828204f, slug put-get-go-go-65ff589ea828204f
      client = go (kv.yaml:10)
      server = go (kv.yaml:13)
      service = kv (kv.yaml:1)
      tls = none (kv.yaml:16)
      key does not apply (kv.yaml:19), applies where `tls.mode in [auto, server, mutual]`
      script = put-get (kv.yaml:24)
      left out by exclude `client == go and server == go and tls == none` (kv.yaml:21): not client == go and server == go and tls == none
    ");
    assert_eq!(printed(&Style::Why("nothing".into()), &all), (0, String::new()));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    struct Head(usize);
    impl Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.0 -= 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut draft = Draft::new();
    let names: Vec<String> = (0..1000).map(|at| format!("v{at}")).collect();
    let values: Vec<&str> = names.iter().map(String::as_str).collect();
    // A thousand million cases: it would not end otherwise.
    draft.axis("client", &["go"]).axis("server", &["go"]).axis("a", &values).axis("b", &values).axis("c", &values);
    let plan = draft.plan();
    assert_eq!(plan.count(&Selection::default()).selected, 1_000_000_000);
    let error = print(&plan, &Selection::default(), &Style::List, false, &mut Head(2)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
