//! What a plan makes of small scenarios: cases, ids, constraints, capabilities, rules.

mod plan_support;

use std::collections::{BTreeSet, HashSet};

use plan_support::Draft;
use semver::VersionReq;
use soupscen::axis::values::HostChanges;
use soupscen::diag::{Diagnostic, Severity};
use soupscen::outcome::{Expected, Phase};
use soupscen::plan::{Disposition, Lacking, Plan, RemoveKind, Selection, Shard};
use soupscen::scenario::model::{AxisValue, DirectWay, Op, OpDef, RuleOutcome};

fn ids(plan: &Plan) -> Vec<String> {
    plan.cases(&Selection::default()).map(|case| plan.id(&case)).collect()
}

fn errors(draft: &Draft) -> Vec<Diagnostic> {
    let errors = Plan::new(draft.finish(), false).expect_err("the scenario has errors");
    assert!(errors.iter().any(|error| error.severity == Severity::Error));
    errors
}

fn diagnostics(draft: &Draft) -> Vec<Diagnostic> {
    Plan::new(draft.finish(), false).unwrap().1
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

fn no_versions(_: &str, _: &str) -> Option<String> {
    None
}

#[test]
fn the_quick_scenario_has_18_cases() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go", "python"]).axis("server", &["rust", "go", "python"]);
    draft.axis("launch", &["plugin"]).axis("tls", &["auto"]).scripts(&["put-get", "absent-key"]);
    let plan = draft.plan();
    let ids = ids(&plan);
    assert_eq!(ids.len(), 18);
    assert_eq!(ids[0], "kv/put-get[client=rust,server=rust]");
    assert_eq!(ids[1], "kv/absent-key[client=rust,server=rust]", "scripts of a pair come together");
    let counts = plan.count(&Selection::default());
    assert_eq!((counts.selected, counts.run, counts.unsupported, counts.known), (18, 18, 0, 0));
    let case = plan.cases(&Selection::default()).nth(5).unwrap();
    assert_eq!(
        (plan.client(&case), plan.server(&case), plan.service(&case), plan.script(&case).name.as_str()),
        ("rust", "python", "kv", "absent-key")
    );
    assert_eq!(case.index, 5);
    assert_eq!(plan.axes(&case).len(), 5);
}

#[test]
fn axes_that_do_not_apply_make_no_rows() {
    let mut draft = Draft::new();
    draft.axis("client", &["go"]).axis("server", &["go"]).axis("launch", &["plugin", "direct"]);
    // In a wrong order on purpose: `key` has to wait for `tls`.
    draft
        .axis("key", &["p256", "secp521r1"])
        .axis("client_key", &["p256", "rsa_2048"])
        .axis("tls", &["none", "auto", "server"]);
    let plan = draft.plan();
    let ids = ids(&plan);
    let under =
        |launch: &str, tls: &str| ids.iter().filter(|id| id.contains(&format!("launch={launch},tls={tls}"))).count();
    assert_eq!(under("plugin", "none"), 1);
    assert_eq!(under("plugin", "auto"), 4);
    assert_eq!(under("plugin", "server"), 2);
    assert_eq!(under("direct", "none"), 1);
    assert_eq!(under("direct", "auto"), 0, "AutoMTLS needs a plugin launch");
    assert_eq!(under("direct", "server"), 2);
    assert_eq!(ids.len(), 10);
    assert!(ids.contains(&"kv/put-get[client=go,server=go,launch=direct,tls=server,key=p521]".to_owned()), "{ids:#?}");
    let [exclusion] = plan.exclusions() else { panic!("{:?}", plan.exclusions()) };
    assert_eq!((exclusion.kind, exclusion.cases), (RemoveKind::Meaningless, 4));
}

#[test]
fn requests_come_from_meanings() {
    use soupscen::axis::values::{KeyType, Launch, TlsFiles, TlsMode, TlsVersion};
    let mut draft = Draft::new();
    draft.axis("client", &["go"]).axis("server", &["go"]).axis("launch", &["plugin"]).axis("tls", &["mtls"]);
    draft.axis("key", &["auto"]).axis("client_key", &["p384"]).axis("tls_version", &["TLSv1.2"]);
    let files = TlsFiles { ca: Some("ca.pem".into()), ..TlsFiles::default() };
    draft.scenario.blocks[0].axes[3].values[0] = AxisValue {
        name: "mine".into(),
        files: Some(files.clone()),
        host: None,
        ..draft.scenario.blocks[0].axes[3].values[0].clone()
    };
    let plan = draft.plan();
    let case = plan.cases(&Selection::default()).next().unwrap();
    let request = plan.request(&case);
    assert_eq!(request.launch, Some(Launch::Plugin));
    assert_eq!(request.tls, Some(TlsMode::Mutual));
    assert_eq!(request.files, Some(files));
    assert_eq!(request.key, None, "`auto` asks for nothing");
    assert_eq!(request.client_key, Some(KeyType::P384), "it applies under the meaning of `mine`");
    assert_eq!(request.tls_version, Some(TlsVersion::V1_2));
    assert_eq!(request.transport, None);
    assert_eq!(plan.value(&case, "tls"), Some("mine"));
}

#[test]
fn keys_do_not_depend_on_order_or_neighbours() {
    let mut small = Draft::new();
    small.axis("client", &["go"]).axis("server", &["rust", "go"]).axis("tls", &["none"]);
    let mut large = Draft::new();
    large.axis("server", &["python", "go", "rust"]).axis("tls", &["mutual", "none"]).axis("key", &["p256", "p521"]);
    large.axis("client", &["rust", "go"]).scripts(&["other", "put-get"]);
    let (small, large) = (small.plan(), large.plan());
    let keys: HashSet<String> = large.cases(&Selection::default()).map(|case| large.key(&case)).collect();
    for case in small.cases(&Selection::default()) {
        assert!(keys.contains(&small.key(&case)), "{}", small.id(&case));
    }
    // What a hash is on this machine, it is on every machine: these are written down.
    let first = small.cases(&Selection::default()).next().unwrap();
    assert_eq!(
        (small.id(&first).as_str(), small.key(&first).as_str()),
        ("kv/put-get[client=go,server=rust]", "ba935954439b6b8e")
    );
    assert_eq!(small.slug(&first), "put-get-go-rust-ba935954439b6b8e");
}

#[test]
fn slugs_fit_whatever_the_names_are() {
    let mut draft = Draft::new();
    draft.axis("client", &["Go_1.25", "日本"]).axis("server", &["a-very-long-name-of-a-server"]);
    draft.scripts(&["Ünïcode script/with=signs", "-"]);
    let plan = draft.plan();
    let cases: Vec<_> = plan.cases(&Selection::default()).collect();
    for case in &cases {
        let slug = plan.slug(case);
        assert!(
            slug.len() <= 32 && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{slug}"
        );
        assert!(!slug.starts_with('-'), "{slug}");
    }
    assert_eq!(cases.iter().map(|case| plan.slug(case)).collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(
        plan.id(&cases[0]),
        "kv/\"Ünïcode script/with=signs\"[client=Go_1.25,server=a-very-long-name-of-a-server]"
    );
}

#[test]
fn excludes_count_and_warn() {
    let mut draft = Draft::new();
    draft
        .axis("client", &["rust", "go"])
        .axis("server", &["rust", "go"])
        .axis("tls", &["none", "mutual"])
        .axis("key", &["p256", "p521"]);
    draft.exclude("client == go and server == go").exclude("client == go and key == p521");
    draft.exclude("key == p256 and tls == none");
    let (plan, warnings) = Plan::new(draft.finish(), false).unwrap();
    assert_eq!(plan.count(&Selection::default()).selected, 12 - 3 - 1);
    let cases: Vec<u64> = plan.exclusions().iter().map(|exclusion| exclusion.cases).collect();
    assert_eq!(cases.iter().sum::<u64>(), 4);
    assert_eq!(cases.len(), 3);
    assert_eq!(plan.exclusions()[0].place.as_ref().unwrap().file, "kv.yaml");
    assert_eq!(codes(&warnings), ["exclude-matches-nothing"]);
    assert!(warnings[0].message.contains("key == p256 and tls == none"));
}

#[test]
fn an_exclude_that_another_one_hides_is_not_without_effect() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go"]).axis("server", &["rust"]);
    draft.exclude("client == go").exclude("client == go and server == rust");
    assert_eq!(codes(&diagnostics(&draft)), Vec::<&str>::new());
}

#[test]
fn a_matrix_that_leaves_nothing_says_why() {
    let mut draft = Draft::new();
    draft
        .axis("client", &["go"])
        .axis("server", &["go", "rust"])
        .axis("launch", &["direct", "plugin"])
        .axis("tls", &["auto"]);
    draft.exclude("launch == plugin");
    let errors = errors(&draft);
    assert_eq!(codes(&errors), ["empty-matrix"]);
    let texts: Vec<&str> = errors[0].labels.iter().map(|label| label.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("2 rows") && texts[0].contains("AutoMTLS"), "{texts:?}");
    assert!(texts[1].contains("2 rows: not launch == plugin"), "{texts:?}");
}

#[test]
fn include_rows_are_added_once() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go"]).axis("server", &["rust"]).axis("tls", &["none"]);
    draft.exclude("client == go");
    draft.include(&[("client", "go"), ("tls", "mutual"), ("key", "p521")]);
    draft.include(&[("client", "rust"), ("tls", "none")]);
    let plan = draft.plan();
    assert_eq!(
        ids(&plan),
        ["kv/put-get[client=rust,server=rust,tls=none]", "kv/put-get[client=go,server=rust,tls=mutual,key=p521]"],
        "the second row is a row of the product"
    );
    let case = plan.cases(&Selection::default()).nth(1).unwrap();
    assert!(plan.why(&case).include.is_some());
    assert!(plan.exclusions().iter().any(|exclusion| exclusion.kind == RemoveKind::Duplicate && exclusion.cases == 1));
}

#[test]
fn include_rows_have_a_meaning() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go"]).axis("server", &["rust"]);
    draft.include(&[("client", "go"), ("tls", "none"), ("key", "p521")]);
    draft.include(&[("client", "go"), ("launch", "direct"), ("tls", "auto")]);
    draft.include(&[("server", "rust")]);
    assert_eq!(codes(&errors(&draft)), ["meaningless-include", "meaningless-include", "incomplete-include"]);
}

#[test]
fn blocks_share_no_case_and_no_id() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go"]).axis("server", &["rust"]).axis("tls", &["none"]);
    draft
        .block("more")
        .axis("client", &["go", "python"])
        .axis("server", &["rust"])
        .axis("tls", &["none", "mutual"])
        .axis("key", &["p256"]);
    draft.block("bare").axis("client", &["go"]).axis("server", &["rust"]);
    let plan = draft.plan();
    let ids = ids(&plan);
    assert_eq!(ids.len(), 2 + 3 + 1, "{ids:#?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(plan.block(&plan.cases(&Selection::default()).last().unwrap()).name.as_deref(), Some("bare"));
}

#[test]
fn scripts_run_where_their_condition_holds() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "go"]).axis("server", &["rust", "go"]).scripts(&["put-get"]);
    draft.script("stdio", Op::Stdio { within: None }, Some("client == rust"));
    let plan = draft.plan();
    assert_eq!(plan.count(&Selection::default()).selected, 6);
    assert_eq!(plan.exclusions()[0].kind, RemoveKind::Script);
    assert_eq!(plan.exclusions()[0].cases, 2);
}

#[test]
fn capabilities_derive_unsupported() {
    let mut draft = Draft::new();
    draft.peer("full", &["*"], &["*"]);
    draft.peer(
        "picky",
        &["launch.plugin", "tls.*", "client_key.secp256r1"],
        &["kv", "tls.none", "tls.mutual when launch == direct", "key.p256", "tls_version.1.3"],
    );
    draft.peer("old", &["launch.*", "tls.*", "client_key.*"], &["service.other"]);
    draft
        .axis("client", &["full", "picky", "old"])
        .axis("server", &["full", "picky", "old"])
        .axis("launch", &["plugin", "direct"]);
    draft
        .axis("tls", &["none", "mutual"])
        .axis("key", &["p256", "auto"])
        .axis("client_key", &["p256", "p521"])
        .axis("tls_version", &["1.3"]);
    let plan = draft.plan();
    let find = |pattern: &str| {
        let selection = Selection { cases: vec![pattern.to_owned()], ..Selection::default() };
        let mut cases = plan.cases(&selection);
        let case = cases.next().unwrap_or_else(|| panic!("no case {pattern}"));
        assert!(cases.next().is_none(), "{pattern} is about several");
        case
    };
    let reasons = |pattern: &str| match plan.disposition(&find(pattern)) {
        Disposition::Run => vec![],
        Disposition::Unsupported(Lacking(missing)) => missing.into_iter().map(|missing| missing.reason).collect(),
    };
    let all = "launch=direct,tls=mutual,key=p256,client_key=p256";
    assert_eq!(reasons(&format!("*[client=full,server=full,{all}]")), Vec::<String>::new());
    assert_eq!(reasons(&format!("*[client=full,server=picky,{all}]")), Vec::<String>::new());
    assert_eq!(
        reasons("*[client=full,server=picky,launch=plugin,tls=mutual,key=auto,client_key=p256]"),
        ["server `picky` has no capability `tls.mutual`"]
    );
    assert_eq!(
        reasons(&format!("*[client=picky,server=full,{all}]")),
        ["client `picky` has no capability `launch.direct`"]
    );
    assert_eq!(
        reasons("*[client=picky,server=full,launch=plugin,tls=mutual,key=p256,client_key=p521]"),
        ["client `picky` has no capability `client_key.p521`"]
    );
    assert_eq!(
        reasons("*[client=old,server=old,launch=plugin,tls=none]"),
        ["server `old` has no capability `service.kv`", "server `old` has no capability `tls.none`"]
    );
    assert_eq!(
        reasons("*[client=old,server=picky,launch=direct,tls=mutual,key=p256,client_key=p521]"),
        Vec::<String>::new(),
        "one end that can pin the version is enough"
    );
    assert!(
        reasons(&format!("*[client=old,server=old,{all}]"))
            .contains(&"neither client `old` nor server `old` has the capability `tls_version.1.3`".to_owned())
    );
    let counted = plan.count(&Selection::default());
    let unsupported =
        plan.cases(&Selection::default()).filter(|case| plan.disposition(case) != Disposition::Run).count();
    assert_eq!(counted.unsupported, unsupported as u64);
    assert!(counted.run > 0);
    let expected = plan
        .expected(&find("*[client=full,server=picky,launch=plugin,tls=mutual,key=auto,client_key=p256]"), &no_versions)
        .unwrap();
    assert_eq!(
        expected,
        Expected::Unsupported { rule: None, reason: "server `picky` has no capability `tls.mutual`".into() }
    );
}

#[test]
fn missing_roles_and_ways_are_said() {
    let mut draft = Draft::new();
    draft.peer("whole", &["*"], &["*"]).peer("plugin-only", &["*"], &["*"]).peer("attached", &["*"], &["kv"]);
    draft.scenario.peers["plugin-only"].server.as_mut().unwrap().direct = None;
    let attached = &mut draft.scenario.peers["attached"];
    attached.client = None;
    attached.server.as_mut().unwrap().plugin = None;
    attached.server.as_mut().unwrap().direct = Some(DirectWay::Attach("127.0.0.1:1".into()));
    draft
        .axis("client", &["whole", "attached"])
        .axis("server", &["whole", "plugin-only", "attached"])
        .axis("launch", &["plugin", "direct"]);
    draft.script("streams", Op::HalfClose { stream: "w".into() }, None);
    let plan = draft.plan();
    let mut reasons = BTreeSet::new();
    for case in plan.cases(&Selection::default()) {
        if let Disposition::Unsupported(Lacking(missing)) = plan.disposition(&case) {
            reasons.extend(missing.into_iter().map(|missing| missing.reason));
        }
    }
    assert_eq!(
        reasons.into_iter().collect::<Vec<_>>(),
        [
            "peer `attached` has no client role",
            "server `attached` cannot be launched as a plugin: its server role names no `plugin` command",
            "server `plugin-only` cannot be started directly: its server role has only a `plugin` way",
        ]
    );
    assert_eq!(plan.count(&Selection::default()).run, 4);
}

#[test]
fn scripts_need_capabilities_of_the_client() {
    let mut draft = Draft::new();
    draft.peer("plain", &["launch.*"], &["*"]).peer("streaming", &["stream.*"], &["*"]);
    draft.axis("client", &["plain", "streaming"]).axis("server", &["plain"]).scripts(&["put-get"]);
    draft.script("streams", Op::End { stream: "w".into(), within: None }, None);
    let plan = draft.plan();
    let counts = plan.count(&Selection::default());
    assert_eq!((counts.selected, counts.unsupported), (4, 1));
}

/// `limits` is both of its kind; a peer may have only one.
#[test]
fn limits_are_asked_for_one_by_one() {
    use soupscen::axis::options::{ChannelOptions, Limits};
    use soupscen::scenario::model::ConnectDef;
    let mut draft = Draft::new();
    draft.peer("client", &["launch.*"], &[]).peer("both", &[], &["kv", "limits"]);
    draft.peer("takes", &[], &["kv", "limits.receive"]);
    draft.axis("client", &["client"]).axis("server", &["both", "takes"]);
    for (name, server_limits) in [
        ("receive", Limits { receive: Some(1), ..Limits::default() }),
        ("send", Limits { send: Some(1), ..Limits::default() }),
    ] {
        let connect = ConnectDef {
            name: "other".into(),
            with: [].into(),
            options: ChannelOptions::default(),
            server_limits,
            refuse: false,
        };
        draft.script(name, Op::Connect(connect), None);
    }
    let plan = draft.plan();
    let lacking = plan.cases(&Selection::default()).filter_map(|case| match plan.disposition(&case) {
        Disposition::Unsupported(Lacking(missing)) => Some(format!("{}: {}", plan.id(&case), missing[0].capability)),
        Disposition::Run => None,
    });
    let lacking: Vec<_> = lacking.collect();
    assert!(lacking.len() == 1 && lacking[0].contains("/send[client=client,server=takes]"), "{lacking:?}");
    assert!(lacking[0].ends_with(": limits.send"), "{lacking:?}");
}

#[test]
fn rules_decide_what_is_expected() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust", "python"]).axis("server", &["rust", "go"]).axis("tls", &["none", "mutual"]);
    draft
        .failed_at("p521", "client == python and server == go and tls == mutual", Phase::Tls)
        .versions
        .insert("client.grpcio".into(), VersionReq::parse("<=1.85.1").unwrap());
    draft.rule("fact", "server == rust and client.lang == python", RuleOutcome::NotEffective { fact: "key".into() });
    draft.rule("never", "id ~ \"*client=rust,server=go,tls=none*\"", RuleOutcome::Unsupported);
    let plan = draft.plan();
    let counts = plan.count(&Selection::default());
    assert_eq!((counts.selected, counts.run, counts.known), (8, 7, 3));
    assert_eq!(plan.rules().map(|(_, cases)| cases).collect::<Vec<_>>(), [1, 2, 1]);
    let case = |id: &str| plan.cases(&Selection { cases: vec![id.into()], ..Selection::default() }).next().unwrap();
    let limited = case("*[client=python,server=go,tls=mutual]");
    let versions = |version: &'static str| {
        move |peer: &str, component: &str| (peer == "python" && component == "grpcio").then(|| version.to_owned())
    };
    let in_force = plan.expected(&limited, &versions("1.85.1")).unwrap();
    assert!(
        matches!(in_force, Expected::Failed { rule, at: Some(Phase::Tls), or_passed: false, .. } if rule == "p521")
    );
    assert_eq!(plan.expected(&limited, &versions("1.86.0")).unwrap(), Expected::Passed);
    assert_eq!(plan.expected(&limited, &no_versions).unwrap(), Expected::Passed);
    let void = plan.void_rules(&limited, &versions("1.86.0"));
    assert_eq!(void[0].reason, "`grpcio` of client `python` is 1.86.0, and the rule holds only within `<=1.85.1`");
    assert!(plan.void_rules(&limited, &no_versions)[0].reason.contains("is not known"));
    assert!(matches!(
        plan.expected(&case("*[client=rust,server=go,tls=none]"), &no_versions).unwrap(),
        Expected::Unsupported { rule: Some(_), .. }
    ));
    assert!(matches!(
        plan.expected(&case("*[client=python,server=rust,tls=none]"), &no_versions).unwrap(),
        Expected::NotEffective { .. }
    ));
}

#[test]
fn a_rule_that_matches_nothing_is_an_error_unless_it_was_included() {
    let mut draft = Draft::new();
    draft.axis("client", &["go"]).axis("server", &["go"]).axis("key", &["p256"]).axis("tls", &["server", "none"]);
    draft.rule("unused", "client == go and key == p521", RuleOutcome::Failed);
    let errors = errors(&draft);
    assert_eq!(codes(&errors), ["rule-matches-nothing"]);
    assert_eq!(errors[0].help.as_deref(), Some("no case has `key == p521`"));
    draft.scenario.rules[0].included = true;
    let notes = diagnostics(&draft);
    assert_eq!((notes[0].code, notes[0].severity), ("rule-matches-nothing", Severity::Note));
    assert!(Plan::new(draft.finish(), true).is_err());
}

#[test]
fn contradictions_name_both_places_and_a_case() {
    let mut draft = Draft::new();
    draft.axis("client", &["go", "rust"]).axis("server", &["go", "rust"]).axis("tls", &["none", "mutual"]);
    draft.rule("a", "client == go and tls == mutual", RuleOutcome::Failed);
    draft.failed_at("b", "server == rust and not (tls == none)", Phase::Tls);
    draft.rule("c", "client == go", RuleOutcome::Failed);
    let errors = errors(&draft);
    assert_eq!(codes(&errors), ["contradicting-rules", "contradicting-rules"], "a and c agree");
    assert!(errors[0].message.contains("kv/put-get[client=go,server=rust,tls=mutual]"), "{}", errors[0].message);
    assert_eq!(errors[0].labels.len(), 2);
    // With versions that exclude each other there is no contradiction.
    for (rule, versions) in draft.scenario.rules.iter_mut().zip(["<1.5", ">=1.5", "=1.4"]) {
        rule.versions.insert("server.self".into(), VersionReq::parse(versions).unwrap());
    }
    assert_eq!(codes(&diagnostics(&draft)), Vec::<&str>::new());
}

#[test]
fn circular_conditions_are_errors() {
    let mut draft = Draft::new();
    draft.axis("client", &["go"]).axis("server", &["go"]);
    let (a, b) = (draft.expr("beta == y"), draft.expr("alpha == x"));
    draft.axis_if("alpha", &["x"], Some(a)).axis_if("beta", &["y"], Some(b));
    assert_eq!(codes(&errors(&draft)), ["circular-applies"]);
}

#[test]
fn selections() {
    let mut draft = Draft::new();
    draft
        .axis("client", &["rust", "go", "python"])
        .axis("server", &["rust", "go"])
        .axis("tls", &["none", "mutual"])
        .scripts(&["a", "b"]);
    let plan = draft.plan();
    let filter = |text: &str| {
        let expr = soupscen::filter::parse(soupscen::diag::SourceId(9), 0, text).unwrap();
        assert!(expr.check(plan.domain()).is_empty(), "{text}: {:?}", expr.check(plan.domain()));
        Selection { filter: Some(expr.into()), ..Selection::default() }
    };
    let size = |selection: &Selection| {
        let count = plan.count(selection).selected;
        assert_eq!(count, plan.cases(selection).count() as u64);
        count
    };
    assert_eq!(size(&filter("client.lang == go and script == a")), 4);
    assert_eq!(size(&filter("id ~ \"kv/a*client=go*\"")), 4);
    assert_eq!(size(&filter("client == go or (server == go and tls != none)")), 12);
    let case = plan.cases(&Selection::default()).nth(7).unwrap();
    for name in [plan.id(&case), plan.key(&case), plan.slug(&case)] {
        let selection = Selection { cases: vec![name], ..Selection::default() };
        let found: Vec<_> = plan.cases(&selection).collect();
        assert_eq!((found.len(), found[0].index), (1, 7), "the index is that of the plan");
    }
    let keys = Selection { keys: Some(HashSet::from([plan.key(&case), "nonsense".into()])), ..Selection::default() };
    assert_eq!(size(&keys), 1);
    assert_eq!(size(&Selection { keys: Some(HashSet::new()), ..Selection::default() }), 0);
    let shards = (1..=5).map(|n| size(&Selection { shard: Shard::new(n, 5), ..Selection::default() }));
    assert_eq!(shards.sum::<u64>(), 24);
    assert!("0/5".parse::<Shard>().is_err() && "6/5".parse::<Shard>().is_err() && "x".parse::<Shard>().is_err());
}

#[test]
fn why_tells_everything() {
    let mut draft = Draft::new();
    draft
        .axis("client", &["rust", "go"])
        .axis("server", &["rust", "go"])
        .axis("launch", &["direct"])
        .axis("tls", &["none", "mutual"])
        .axis("key", &["p256"]);
    draft.exclude("client == go and server == go");
    draft.rule("limit", "tls == mutual and client == go", RuleOutcome::Failed);
    let plan = draft.plan();
    let case = plan
        .cases(&Selection { cases: vec!["*client=go,server=rust,tls=mutual]".into()], ..Selection::default() })
        .next();
    let why = plan.why(&case.unwrap());
    assert_eq!(why.rules[0].id, "limit");
    assert_eq!(why.constraints[0].unmet, ["server == go"]);
    assert!(
        why.axes
            .iter()
            .any(|axis| axis.axis == "key" && axis.applies.is_some() && axis.value.as_deref() == Some("p256"))
    );
    assert!(
        why.asks.iter().any(|ask| ask.capability == "tls.mutual"
            && ask.role == "server"
            && ask.provided_by.as_deref() == Some("*"))
    );
    let left_out = plan.why_not("kv/put-get[client=go,server=go,tls=none]").unwrap();
    assert!(left_out.constraints[0].leaves_out && left_out.constraints[0].unmet.is_empty());
    assert!(plan.why_not("kv/put-get[client=go,server=cobol,tls=none]").is_none());
}

#[test]
fn a_condition_about_a_block_stays_with_its_block() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust"]).axis("server", &["rust"]).axis("tls", &["none", "mutual"]);
    draft.exclude("block == first and tls == none");
    draft.block("second").axis("client", &["rust"]).axis("server", &["rust"]).axis("tls", &["none", "mutual"]);
    let plan = draft.plan();
    // The second block has what the first one leaves out, and nothing twice.
    let found = ids(&plan);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 2, "{found:?}");
    assert_eq!(plan.count(&Selection::default()).selected, 2);
}

#[test]
fn rows_that_are_there_again_and_again_are_planned_in_a_moment() {
    let mut draft = Draft::new();
    draft.axis("client", &["rust"]).axis("server", &["rust", "go"]).axis("tls", &["none", "mutual"]);
    for _ in 0..20 {
        draft.include(&[("client", "rust"), ("server", "rust"), ("tls", "none")]);
        draft.include(&[("client", "rust"), ("server", "go"), ("tls", "server")]);
    }
    // Where each row asked all that rows before it ask, this would not end.
    assert_eq!(ids(&draft.plan()).len(), 5);
}

#[test]
fn the_digest_is_of_what_makes_the_cases() {
    let digest = |change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new();
        draft.axis("client", &["rust", "go"]).axis("server", &["rust"]);
        change(&mut draft);
        draft.plan().digest()
    };
    let base = digest(&|_| {});
    let same = |change: &dyn Fn(&mut Draft)| assert_eq!(digest(change), base);
    let other = |change: &dyn Fn(&mut Draft)| assert_ne!(digest(change), base);
    same(&|draft| {
        draft.line("# a comment");
    });
    same(&|draft| {
        draft.rule("r", "client == go", RuleOutcome::Failed);
    });
    other(&|draft| {
        draft.axis("tls", &["none"]);
    });
    other(&|draft| {
        draft.exclude("client == go");
    });
    other(&|draft| {
        draft.scripts(&["x"]);
    });
    other(&|draft| {
        draft.scenario.vars.insert("greeting".into(), "hi".into());
    });
    other(&|draft| {
        let span = draft.line("get");
        let send = serde_json::json!({ "key": "{{ key }}" });
        let op = OpDef { method: "Get".into(), args: vec!["key".into()], send, yields: None, span };
        draft.scenario.services["kv"].ops.insert("get".into(), op);
    });
    let host = HostChanges { protocol_versions: Some(vec![7]), ..HostChanges::default() };
    other(&|draft| {
        draft.scenario.blocks[0].axes[0].values[0].host = Some(host.clone().into());
    });
}
