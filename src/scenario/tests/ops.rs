//! Ops that are made of steps, and those about servers and connections: what is good and what is not.

use super::{GOOD, bent, check, good, problems};
use crate::scenario::model::{Branches, Op, ServerAct};

/// What the tests exchange.
const STEP: &str = r#"      - put: { key: "{{ case.slug }}", value: "{{ vars.greeting }}" }
"#;

fn with(steps: &str) -> String {
    format!("{STEP}{steps}")
}

#[track_caller]
fn bad(steps: &str, code: &str, under: &str, help: &str) {
    check(STEP, &with(steps), code, under, help);
}

#[test]
fn all_of_them_are_read() {
    let scenario = good(bent(
        STEP,
        &with(
            r#"      - connect: { as: other, with: { key: RSA_2048, tls: mutual } }
      - parallel:
          - - get: { key: "{{ branch }}" }
              capture: { own: value }
          - - repeat: { times: 3, ops: [{ get: { key: "{{ round }}-{{ branch }}" }, on: other, capture: { last: value } }, { get: { key: "{{ last }}" } }] }
      - parallel: { times: 9, ops: [{ put: { key: "{{ work }}", value: { $bytes: { size: 2MiB } } } }] }
      - sleep: { for: 50ms, reason: a lease must run out }
      - { server: restart, on: other }
"#,
        ),
    ));
    let script = &scenario.scripts["one"];
    let Op::Connect(connect) = &script.steps[1].op else { panic!() };
    assert_eq!(connect.with["key"], "rsa-2048");
    let Op::Parallel(Branches::Each(branches)) = &script.steps[2].op else { panic!() };
    assert_eq!(branches.len(), 2);
    let Op::Repeat { times: 3, steps } = &branches[1][0].op else { panic!() };
    assert_eq!((steps[0].on.as_deref(), steps[0].id.as_str()), (Some("other"), "get-1"));
    assert!(matches!(&script.steps[3].op, Op::Parallel(Branches::Same { times: 9, .. })));
    assert!(matches!(script.steps[5].op, Op::Server(ServerAct::Restart)));
    assert!(script.uses_work && script.needs_own_instance() && script.rules_servers());
    assert!(!good(bent("name: t", "name: t")).scripts["one"].needs_own_instance());
}

#[test]
fn steps_inside_of_steps() {
    bad("      - repeat: { times: 0, ops: [{ get: { key: a } }] }\n", "out-of-range", "0", "-");
    bad("      - repeat: { times: 3, ops: [] }\n", "empty", "[]", "-");
    bad(
        "      - repeat: { ops: [{ get: { key: a } }] }\n",
        "missing-key",
        "{ ops: [{ get: { key: a } }] }",
        "`times: 10`",
    );
    bad("      - repeat: { times: 3, ops: [{ gte: { key: a } }] }\n", "unknown-op", "gte", "did you mean `get`?");
    bad("      - parallel: []\n", "out-of-range", "[]", "-");
    bad("      - parallel: { times: 257, ops: [{ get: { key: a } }] }\n", "out-of-range", "257", "-");
    let nested = "{ repeat: { times: 2, ops: [".repeat(5) + "{ get: { key: a } }" + &"] } }".repeat(5);
    let found = problems(bent(STEP, &with(&format!("      - {nested}\n"))));
    assert!(found[0].starts_with("too-deep ") && found.len() == 1, "{found:?}");
    let wide = "      - parallel: { times: 200, ops: [{ parallel: { times: 6, ops: [{ get: { key: a } }] } }] }\n";
    let found = problems(bent(STEP, &with(wide)));
    assert!(found[0].starts_with("out-of-range ") && found[0].contains("make `parallel` smaller"), "{found:?}");
}

#[test]
fn names_have_their_places() {
    bad("      - get: { key: \"{{ round }}\" }\n", "unknown-name", "round", "known names");
    bad(
        "      - parallel: [[{ get: { key: a }, capture: { mine: value } }], [{ get: { key: \"{{ mine }}\" } }]]\n",
        "unknown-name",
        "mine",
        "known names",
    );
    bad("      - { get: { key: a }, on: other }\n", "unknown-connection", "other", "`- connect: { as: other }`");
    bad(
        "      - connect: { as: other }\n      - { get: { key: a }, on: othre }\n",
        "unknown-connection",
        "othre",
        "did you mean `other`?",
    );
    bad("      - connect: { as: other }\n      - connect: { as: other }\n", "duplicate-name", "other", "its own name");
    bad(
        "      - connect: { as: other }\n      - { sleep: { for: 1ms, reason: x }, on: other }\n",
        "misplaced-key",
        "on",
        "take `on` away",
    );
}

#[test]
fn servers_and_connections() {
    bad("      - server: restrat\n", "unknown-value", "restrat", "did you mean `restart`?");
    bad("      - connect: {}\n", "missing-key", "{}", "`as: other`");
    bad("      - connect: { as: o, with: { kee: p256 } }\n", "unknown-axis", "kee", "did you mean `key`?");
    bad("      - connect: { as: o, with: { launch: plugin } }\n", "unknown-axis", "launch", "same two peers");
    bad("      - connect: { as: o, with: { key: p255 } }\n", "unknown-value", "p255", "did you mean `p256`?");
}

#[test]
fn what_has_no_result_cannot_be_checked() {
    for op in [
        "server: restart",
        "connect: { as: other }",
        "sleep: { for: 1ms, reason: none }",
        "repeat: { times: 2, ops: [{ get: { key: a } }] }",
        "parallel: { times: 2, ops: [{ get: { key: a } }] }",
    ] {
        let help = "beside the call";
        bad(&format!("      - {op}\n        checks: {{ c: {{ value: never }} }}\n"), "misplaced-key", "checks", help);
        bad(&format!("      - {op}\n        capture: {{ x: value }}\n"), "misplaced-key", "capture", help);
    }
}

#[test]
fn a_sleep_says_why() {
    bad("      - sleep: { for: 50ms }\n", "missing-key", "{ for: 50ms }", "nothing else to wait for");
    bad("      - sleep: { for: 50ms, reason: \" \" }\n", "empty", "\" \"", "-");
    bad("      - sleep: { for: 2m, reason: because }\n", "out-of-range", "2m", "wait for what happens");
    bad("      - sleep: { for: 50, reason: because }\n", "bad-duration", "50", "did you mean `50s`");
}

#[test]
fn made_bytes_are_bounded() {
    bad("      - put: { key: a, value: { $bytes: { size: 65MiB } } }\n", "bad-bytes", "{ size: 65MiB }", "size: 5MiB");
    bad("      - get: { key: a }\n        expect: { value: { $bytes: 5Mib } }\n", "bad-bytes", "5Mib", "size: 5MiB");
    assert!(GOOD.contains(STEP));
}

#[test]
fn options_of_calls_and_connections_are_read() {
    let scenario = good(bent(
        STEP,
        &with(
            r#"      - connect: { as: other, lazy: true, refuse: true, limits: { receive: 64KiB }, keepalive: { every: 10s, timeout: 5s } }
      - connect: { as: third, server_limits: { send: 1MiB } }
      - call: { method: Put, send: { key: "{{ round }}" }, times: 3, compression: gzip, wait_for_ready: true }
        on: other
        expect: { wire: { requests: 3 } }
"#,
        ),
    ));
    let script = &scenario.scripts["one"];
    assert!(script.reads_wire() && script.starts_servers() && !script.rules_servers());
    let Op::Connect(other) = &script.steps[1].op else { panic!() };
    assert_eq!((other.options.lazy, other.refuse, other.options.limits.receive), (true, true, Some(64 << 10)));
    assert!(other.options.keepalive.is_some() && !other.needs_own_server());
    let Op::Call(call) = &script.steps[3].op else { panic!() };
    assert_eq!((call.times, call.options.wait_for_ready), (Some(3), true));
    assert_eq!(call.options.compression.map(crate::axis::options::Compression::name), Some("gzip"));
}

#[test]
fn options_that_mean_nothing_are_told() {
    bad("      - connect: { as: x, refuse: true }\n", "misplaced-key", "refuse", "lazy: true");
    bad("      - connect: { as: x, limits: { send: many } }\n", "bad-size", "many", "64KiB");
    bad("      - call: { method: Put, compression: brotli }\n", "unknown-value", "brotli", "gzip");
    bad("      - call: { method: Put, times: 0 }\n", "out-of-range", "0", "");
}
