//! One peer definition as several peers: each version is built once and meets the others.

#[path = "support/run.rs"]
mod run;

use run::{Place, SOUPSCEN, text};

/// A peer whose build and server need nothing but a shell.
const PEERS: &str = r#"
  lib:
    VARIANTS
    build: { run: [sh, -c, 'echo {{ version }} > {{ output }}/version; echo built >> built-{{ version }}'], tools: { sh: { version: [-c, "echo 1"], install: it is there } } }
    versions: { lib: { run: [cat, "{{ output }}/version"] } }
    server:
      plugin:
        run: [sh, -c, 'echo "$(cat "$1/version") $2" >> noted; exec "$0" serve kv', SOUPSCEN, "{{ output }}", "{{ version }}"]
      exec:
        run: [sh, -c, 'exec "$0" serve kv --address=127.0.0.1:$1', SOUPSCEN, "{{ port }}"]
        env: { VERSION: "{{ version }}" }
      provides: [kv, launch.plugin, tls.none]
"#;

const REST: &str = r#"
matrix:
  axes: { client: [rust], server: SERVERS, launch: [plugin, direct], tls: [none] }
scripts:
  version:
    ops:
      - put: { key: "{{ server.version }}", value: "{{ server.variant_of }}" }
      - get: { key: "{{ server.version }}" }
        expect: { value: lib }
"#;

fn write(place: &Place, variants: &str, servers: &str, more: &str) {
    let text = format!("soupscen: 1\nname: versions\npeers:\n  rust: {{ builtin: {{}} }}{PEERS}{REST}{more}");
    let text = text.replace("VARIANTS", variants).replace("SERVERS", servers).replace("SOUPSCEN", SOUPSCEN);
    place.write("versions.yaml", &text);
}

const TWO: &str = "variants: { version: [\"1.80.0\", \"1.85.1\"] }";

#[test]
fn each_version_is_a_peer_and_is_built_once() {
    let place = Place::new();
    for servers in ["[lib]", "[\"lib@*\"]", "[lib@1.80.0, lib@1.85.1]"] {
        write(&place, TWO, servers, "");
        let (ran, results) = place.results("versions.yaml", &["--jobs", "1"]);
        assert_eq!(results.counts().get("passed"), Some(&4), "{:?}\n{ran}", results.verdicts());
        for version in ["1.80.0", "1.85.1"] {
            let case = results.case(&[&format!("server=lib@{version}"), "launch=plugin"]);
            assert_eq!(text(&case["axes"]["server"]), format!("lib@{version}"));
            // What was built is what is run.
            assert!(place.read("noted").contains(&format!("{version} {version}\n")), "{}", place.read("noted"));
        }
    }
    for version in ["1.80.0", "1.85.1"] {
        assert_eq!(place.read(&format!("built-{version}")), "built\n");
    }
    let (ran, results) = place.results("versions.yaml", &["--filter", "server.version == 1.85.1"]);
    assert_eq!(results.cases().len(), 2, "{ran}");
    place.run(["peers", "versions.yaml"]).exits(0).says("lib@1.80.0").says("lib 1.85.1");
}

#[test]
fn rules_are_about_one_version_or_about_all_of_them() {
    let place = Place::new();
    let rules = r#"
expectations:
  - { id: one, when: server.version == 1.80.0 and launch == plugin, outcome: failed, reason: it is the older one }
  - { id: all, when: server.variant_of == lib and launch == direct, outcome: failed, versions: { server.lib: "<1.85.0" }, reason: so are all }
"#;
    write(&place, TWO, "[lib]", rules);
    let (ran, results) = place.results("versions.yaml", &[]);
    let verdict = |parts: &[&str]| text(&results.case(parts)["verdict"]).to_owned();
    assert_eq!(verdict(&["lib@1.80.0", "plugin"]), "unexpected-pass", "{ran}");
    assert_eq!(verdict(&["lib@1.85.1", "plugin"]), "passed");
    assert_eq!(verdict(&["lib@1.80.0", "direct"]), "unexpected-pass");
    assert_eq!(verdict(&["lib@1.85.1", "direct"]), "passed");
}

#[test]
fn a_scenario_gives_the_versions_of_a_peer_file_and_several_names_multiply() {
    let place = Place::new();
    let peers = format!("soupscen: 1\npeers:{PEERS}")
        .replace("SOUPSCEN", SOUPSCEN)
        .replace("VARIANTS", "variants: { version: \"1.0\" }");
    place.write("peer.yaml", &peers);
    let scenario = |from: &str| {
        format!("soupscen: 1\nname: versions\npeers:\n  rust: {{ builtin: {{}} }}\n  mine: {{ from: peer.yaml{from} }}{REST}")
            .replace("SERVERS", "[mine]")
    };
    place.write("versions.yaml", &scenario(""));
    place.run(["plan", "versions.yaml"]).exits(0).says("server=mine@1.0,");
    place.write("versions.yaml", &scenario(", variants: { version: [\"2.0\", \"3.0\"] }"));
    let said =
        place.run(["plan", "versions.yaml"]).exits(0).says("server=mine@2.0,").says("server=mine@3.0,").out.clone();
    assert!(!said.contains("mine@1.0"), "{said}");
    let both = PEERS
        .replace("VARIANTS", "variants: { version: [a, b], other: [x, y] }")
        .replace("VERSION: \"", "VERSION: \"{{ other }}");
    let text = format!("soupscen: 1\nname: versions\npeers:\n  rust: {{ builtin: {{}} }}{both}{REST}");
    place.write("versions.yaml", &text.replace("SERVERS", "[\"lib@*+y\"]"));
    place.run(["plan", "versions.yaml"]).exits(0).says("server=lib@a+y,").says("server=lib@b+y,").says("4 cases");
}

#[test]
fn mistakes_in_variants_are_told_with_their_place() {
    let place = Place::new();
    let check = |variants: &str, servers: &str| {
        write(&place, variants, servers, "");
        place.run(["check", "versions.yaml"]).exits(2)
    };
    check("variants: { version: [] }", "[lib]").says("`version` has no values");
    check("variants: { version: [a, a] }", "[lib]").says("`a` is there twice");
    check("variants: { version: [a], edition: [b] }", "[lib]").says("nothing of the peer depends on `edition`");
    check("variants: { version: [a], storage: [b] }", "[lib]").says("`storage` is a name of something else");
    check("variants: { version: [\"a b\"] }", "[lib]").says("cannot name a variant");
    check("variants: { version: [a] }", "[lib@b]").says("unknown peer `lib@b`").says("lib@a");
    check("", "[lib]").says("unknown name `version`");
}
