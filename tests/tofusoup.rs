//! `scenarios/tofusoup.yaml`, `tofusoup-claims.yaml` and `tofusoup-go.yaml`: what `soup` does is what
//! the rules say, which of `TofuSoup`'s claims are stale is pinned, and `soup-go` is looked for where
//! `--set` says. The whole of the first, with both transports, is a stage of CI.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use run::{Place, ROOT, SOUPSCEN, fact, observation, text, toolchains};

fn path(scenario: &str) -> String {
    format!("{ROOT}/scenarios/{scenario}.yaml")
}

#[test]
fn every_block_has_the_number_of_cases_that_the_file_states() {
    let place = Place::new();
    for (scenario, block, number) in
        [("tofusoup", "configurations", 96), ("tofusoup", "values", 18), ("tofusoup-go", "configurations", 120)]
    {
        let yaml = std::fs::read_to_string(path(scenario)).unwrap();
        assert!(yaml.contains(&format!("\n  {block}: {number} cases\n")), "{scenario} does not state {block}");
        let ran = place.run(["plan", "--count", &path(scenario), "--filter", &format!("block == {block}")]);
        ran.exits(0).says(&format!("{scenario}: {number} cases"));
    }
    for scenario in ["tofusoup", "tofusoup-claims", "tofusoup-go"] {
        place.run(["check", "--strict-rules", &path(scenario)]).exits(0);
    }
}

/// Verdict, cause and effective key of each configuration over TCP, by what was measured.
fn expected(client: &str, server: &str, tls: &str, key: &str) -> (&'static str, &'static str, &'static str) {
    let own = match key {
        "rsa-2048" => "rsa-2048",
        "rsa-4096" => "rsa-4096",
        "p256" => "p256",
        "p384" => "p384",
        "p521" => "p521",
        _ => "",
    };
    match (client, server, tls, key) {
        (_, "soup", "auto", "auto") => ("known", "handshake.exit", ""),
        ("soup", "soup", "server", "p521") | ("soup", "rust", "auto", "p521") => {
            ("known", "tls.rejected.server-cert.by-client.signature", "")
        }
        ("soup", "rust", "server", _) => ("known", "tls.plaintext-client", ""),
        (_, "soup", "auto", "p384") => ("passed", "", "p384"),
        (_, "soup", "auto", _) => ("known", "", "p384"),
        (_, "rust", "auto", "auto") => ("passed", "", "p256"),
        _ => ("passed", "", own),
    }
}

#[test]
fn what_soup_does_is_what_the_rules_say() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let filter = "block == values or transport == tcp";
    let (ran, results) = place.results(&path("tofusoup"), &["--require-peers", "--filter", filter]);
    let ran = ran.exits(0);
    assert_eq!(results.cases().len(), 18 + 48, "{ran}");
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for case in results.cases() {
        let axis = |name: &str| case["axes"][name].as_str().unwrap_or_default();
        if case["script"] != "put-get" {
            assert_eq!(case["verdict"], "passed", "{case:#}\n{ran}");
            continue;
        }
        let (client, server, tls, key) = (axis("client"), axis("server"), axis("tls"), axis("key"));
        let (verdict, cause, effective) = expected(client, server, tls, key);
        assert_eq!(case["verdict"], verdict, "{case:#}\n{ran}");
        assert_eq!(observation(case)["cause"]["code"].as_str().unwrap_or_default(), cause, "{case:#}");
        if cause.is_empty() && tls != "none" {
            let asked = if key == "auto" { "" } else { key };
            assert_eq!(fact(case, "key"), (asked, effective), "{case:#}");
            let seen = if server == "soup" { "server" } else { tls };
            assert_eq!(fact(case, "tls"), (tls, seen), "{case:#}");
        }
        if verdict == "known" {
            *known.entry(text(&case["expected"]["rule"]).to_owned()).or_default() += 1;
        }
    }
    let rules = [
        ("soup-client-needs-field-6", 5),
        ("soup-grpcio-cannot-verify-p521", 2),
        ("soup-refuses-curve-auto", 2),
        ("soup-serves-p384", 8),
    ];
    let instead = &results.0["summary"]["instead"]["soup-serves-p384"];
    for key in ["rsa-2048", "rsa-4096", "p256", "p521"] {
        assert_eq!(instead[format!("key {key}, got p384")], 2, "{instead:#}");
    }
    let ran = ran.says("asked for key p256, got p384 (2 cases); key p521, got p384 (2 cases)");
    assert_eq!(known, rules.map(|(rule, number)| (rule.to_owned(), number)).into(), "{ran}");
    assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
    assert!(place.processes().is_empty(), "{:?}", place.processes());
}

#[test]
fn a_json_object_that_comes_back_as_it_was_is_noticed() {
    if !toolchains(&["python3"]) {
        return;
    }
    // The check that documents the enrichment fails on what a server without it gives.
    let place = Place::new();
    let yaml = std::fs::read_to_string(path("tofusoup")).unwrap();
    let here = |text: &str| text.replace("[peers/", &format!("[{ROOT}/scenarios/peers/"));
    let other = here(&yaml).replace("limitations/", &format!("{ROOT}/scenarios/limitations/"));
    let other = other.replace(
        "    when: server == soup\n    ops:\n      - put: { key: \"{{ case.slug }}\", value: '{",
        "    ops:\n      - put: { key: \"{{ case.slug }}\", value: '{",
    );
    place.write("other.yaml", &other);
    let filter = "script == json-object and client == rust";
    let (ran, results) = place.results("other.yaml", &["--require-peers", "--filter", filter]);
    let ran = ran.exits(1);
    assert_eq!(results.case(&["server=soup"])["verdict"], "passed", "{ran}");
    assert_eq!(results.case(&["server=rust"])["verdict"], "failed", "{ran}");
}

/// What of `TofuSoup`'s published compatibility matrix is stale, and how.
const STALE: [(&[&str], &str); 6] = [
    // "secp256r1: supported": it passes, with P-384.
    (&["client=soup,server=soup", "tls=auto,key=p256"], "not-effective"),
    // "P-521: expected to fail": it passes, with P-384.
    (&["client=soup,server=soup", "tls=auto,key=p521"], "not-effective"),
    // "Set tls_curve="auto" to let the runtime choose": `soup` refuses the option's value.
    (&["client=soup,server=soup", "tls=auto,key=auto"], "failed"),
    // "Python → Go: not supported": it is, for any curve but P-521.
    (&["client=soup,server=go-keys", "key=p256"], "unexpected-pass"),
    (&["client=soup,server=go-keys", "key=p384"], "unexpected-pass"),
    // "Python servers only accept secp256r1 or secp384r1": one with a P-521 certificate works.
    (&["client=go,server=soup", "tls=server,key=p521"], "unexpected-pass"),
];

#[test]
fn exactly_these_claims_are_stale() {
    if !toolchains(&["go", "python3"]) {
        return;
    }
    let place = Place::new();
    let (ran, results) = place.results(&path("tofusoup-claims"), &["--require-peers"]);
    let ran = ran.exits(1);
    for (parts, verdict) in STALE {
        assert_eq!(results.case(parts)["verdict"], verdict, "{parts:?}\n{ran}");
    }
    let counts = [("passed", 7), ("known", 2), ("failed", 1), ("unexpected-pass", 3), ("not-effective", 2)];
    assert_eq!(results.counts(), counts.map(|(verdict, number)| (verdict.to_owned(), number)).into(), "{ran}");
    // Where the claim does hold, it is for another reason than is given: the key, not pyvider-rpcplugin.
    for server in ["go,", "go-keys,"] {
        let case = results.case(&[&format!("client=soup,server={server}"), "key=p521"]);
        assert_eq!(case["verdict"], "known", "{case:#}");
        assert_eq!(observation(case)["cause"]["code"], "tls.rejected.server-cert.by-client.signature", "{case:#}");
    }
}

/// A stand-in for `soup-go`: takes the command lines that are known of it, keeps those of the server,
/// and serves and calls with what is built in. It proves the mechanism, not soup-go.
fn stand_in(place: &Place) -> String {
    let program = place.write(
        "elsewhere/soup-go",
        &format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'soup-go stand-in'\nexport SOUPSCEN={SOUPSCEN}\n\
             [ \"$TLS_MODE\" = disabled ] && TLS_MODE=none\n\
             case \"$3\" in put|get) shift 2; exec {ROOT}/tests/support/composer.sh \"$@\";; esac\n\
             echo \"$*\" >> {kept}\n\
             [ \"$1 $2 $3 $4\" = 'rpc kv server --tls-mode' ] || exit 1\n\
             case \"$5\" in auto) set -- \"$@\" --tls auto;; disabled) set -- \"$@\" --tls none;; *) exit 1;; esac\n\
             case \"$7 $9\" in 'rsa auto') key=rsa-2048;; 'ec secp256r1') key=p256;; 'ec secp384r1') key=p384;; \
             'ec secp521r1'|'ec auto') key=p521;; *) exit 1;; esac\n\
             exec {SOUPSCEN} serve kv --transport unix --key-type $key \"${{10}}\" \"${{11}}\"\n",
            kept = place.at("started").display(),
        ),
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.to_str().unwrap().to_owned()
}

#[test]
fn soup_go_is_found_where_set_says_and_left_out_elsewhere() {
    let place = Place::new();
    let file = path("tofusoup-go");
    // A server of Rust with a certificate of choice announces none in its line, as go-plugin has it.
    let filter = ["--filter", "client != soup and server != soup and not (tls == server and server == rust)"];
    let counts = |counts: &[(&str, usize)]| counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    // Over TCP, and with a certificate of choice, soup-go's server cannot be asked at all.
    let unsupported = ("unsupported", 2 * (12 + 5));
    let (ran, results) = place.results(&file, &filter);
    let ran = ran.exits(4).says("peer `soup-go` needs `soup-go`").says("--set soup_go=");
    assert_eq!(results.counts(), counts(&[("not-run", 28), unsupported]), "{ran}");

    let set = format!("soup_go={}", stand_in(&place));
    let (ran, results) = place.results(&file, &[&filter[..], &["--require-peers", "--set", &set]].concat());
    let ran = ran.exits(1);
    // There is no option for the size of an RSA key, and the stand-in takes 2048 bits.
    assert_eq!(results.counts(), counts(&[("passed", 26), ("not-effective", 2), unsupported]), "{ran}");
    for client in ["soup-go", "rust"] {
        let case = results.case(&[&format!("client={client},server=soup-go"), "transport=unix,tls=auto,key=rsa-4096"]);
        assert_eq!(fact(case, "key"), ("rsa-4096", "rsa-2048"), "{ran}");
    }
    // Each configuration from the Rust client once, and from soup-go's for each of its three ops.
    let mut started: BTreeMap<String, usize> = BTreeMap::new();
    place.read("started").lines().for_each(|line| *started.entry(line.to_owned()).or_default() += 1);
    let command = |mode: &str, key: &str, curve: &str| {
        format!("rpc kv server --tls-mode {mode} --tls-key-type {key} --tls-curve {curve}")
    };
    let auto = ["auto", "secp256r1", "secp384r1", "secp521r1"].map(|curve| (command("auto", "ec", curve), 4));
    let others = [(command("disabled", "ec", "auto"), 4), (command("auto", "rsa", "auto"), 2 * 4)];
    assert_eq!(started, auto.into_iter().chain(others).collect(), "{ran}");
}

#[test]
fn what_is_set_must_be_there() {
    let place = Place::new();
    let file = path("tofusoup-go");
    for command in ["run", "plan"] {
        place.run([command, &file, "--set", "soup-go=x"]).exits(2).says("did you mean `soup_go`?");
        place.run([command, &file, "--set", "soup_go"]).exits(2).says("write NAME=VALUE");
    }
    let peers = format!("{ROOT}/scenarios/peers/tofusoup-go.yaml");
    place.run(["peers", &peers, "--set", "soupgo=x"]).exits(2).says("did you mean `soup_go`?");
    place.run(["peers", &peers, "--set", "soup_go=/nowhere/soup-go"]).exits(1).says("`/nowhere/soup-go`");
}

#[test]
fn a_command_to_run_a_case_again_sets_the_same() {
    let place = Place::new();
    let yaml = format!(
        "soupscen: 1\nname: again\nvars: {{ said: hello, wanted: hello }}\npeers:\n  rust: {{ builtin: {{}} }}\n\
         matrix:\n  axes: {{ client: [rust], server: [rust], launch: [plugin] }}\n{}",
        run::PUT_GET
            .replace("value: v }\n      - get", "value: \"{{ vars.said }}\" }\n      - get")
            .replace("value: v }", "value: \"{{ vars.wanted }}\" }")
    );
    place.write("again.yaml", &yaml);
    place.run(["run", "again.yaml"]).exits(0);
    let ran = place.run(["run", "again.yaml", "--set", "said=good day"]).exits(1);
    ran.says("again soupscen run again.yaml --set 'said=good day' --case ");
}

#[test]
fn the_driver_keeps_the_contract() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let peers = format!("{ROOT}/fixtures/peers/tofusoup/peer.yaml");
    let ran = place.run(["driver", "check", "--peer", "soup", "--from", &peers]).exits(0);
    // It launches, and dials nothing: what is dialled for is not waited for.
    let ran = ran.says("0 broken").says("its client does not provide launch.direct");
    for rule in ["launch", "launch.exit", "launch.silence", "launch.outlive", "one-answer"] {
        assert!(ran.out.lines().any(|line| line.trim_start().starts_with(&format!("ok  {rule} "))), "{rule}\n{ran}");
    }
}
