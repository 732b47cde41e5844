//! What people read is true: the scenarios in README and docs pass `soupscen check`, links lead
//! somewhere, every cause code of the sources is explained, and every key of the language is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// README, changelog and everything below `docs/`.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for folder in ["docs", "docs/design"] {
        for entry in fs::read_dir(root().join(folder)).expect("docs are there") {
            let name = entry.expect("readable").file_name().into_string().expect("utf-8");
            if Path::new(&name).extension().is_some_and(|e| e == "md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages.sort();
    pages
}

/// Fenced blocks whose info string is exactly `info`, with the line that they begin on.
fn blocks(text: &str, info: &str) -> Vec<(usize, String)> {
    let fence = format!("```{info}");
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line.trim_end() == "```" => found.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None if line.trim_end() == fence => open = Some((number + 2, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// A clone as a user has it, as far as scenarios refer to it, in a folder of its own.
fn clone() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["fixtures", "scenarios", "proto"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).expect("a link");
    }
    folder
}

fn check(folder: &Path, file: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_soupscen"))
        .args(["check", "--color", "never"])
        .arg(file)
        .current_dir(folder)
        .output()
        .expect("soupscen runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_scenario_in_the_docs_passes_check() {
    let mut checked = 0;
    for page in pages() {
        for (line, block) in blocks(&read(&page), "yaml scenario") {
            let folder = clone();
            // What a block says it is (`# file: proto/orders.proto`) is beside it.
            for (_, other) in blocks(&read(&page), "proto") {
                let name = other.lines().next().and_then(|l| l.strip_prefix("// file: ")).expect("a file name");
                let path = folder.path().join("own").join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, &other).expect("written");
            }
            fs::create_dir_all(folder.path().join("own")).expect("made");
            // Blocks with a proto of their own live in a folder of their own.
            let file = if block.contains("proto/orders.proto") { "own/block.yaml" } else { "block.yaml" };
            fs::write(folder.path().join(file), &block).expect("written");
            let (ok, said) = check(folder.path(), Path::new(file));
            assert!(ok, "{page}, the block at line {line}:\n{said}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} scenarios were found: are the blocks still marked?");
}

#[test]
fn the_limitation_of_the_readme_belongs_to_its_second_scenario() {
    let readme = read("README.md");
    let scenarios = blocks(&readme, "yaml scenario");
    let second = scenarios.iter().map(|(_, b)| b).find(|b| b.contains("name: second")).expect("second.yaml");
    let plain = blocks(&readme, "yaml");
    let rule = plain.iter().map(|(_, b)| b).find(|b| b.starts_with("expectations:")).expect("the rule");
    let folder = clone();
    fs::write(folder.path().join("second.yaml"), format!("{second}{rule}")).expect("written");
    let (ok, said) = check(folder.path(), Path::new("second.yaml"));
    assert!(ok, "{said}");
}

#[test]
fn every_example_of_a_match_is_one_that_the_language_takes() {
    let page = read("docs/verdicts.md");
    let section = page.split("## When a rule describes a failure").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| `"));
    let example = Regex::new("`((?:match|at): [^`]+)`").expect("a pattern");
    let cells = rows.map(|row| row.split(" | ").next().expect("a cell"));
    let examples: Vec<_> =
        cells.flat_map(|cell| example.captures_iter(cell).map(|found| found[1].to_owned())).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    let folder = clone();
    for example in examples {
        let scenario = format!(
            "soupscen: 1\npeers: {{ rust: {{ builtin: {{}} }} }}\nmatrix: {{ axes: {{ client: [rust], server: [rust] }} }}\n\
             scripts: {{ put: {{ ops: [{{ put: {{ key: a, value: b }} }}] }} }}\n\
             expectations: [{{ id: rule, when: server == rust, outcome: failed, reason: an example, {example} }}]\n"
        );
        fs::write(folder.path().join("match.yaml"), scenario).expect("written");
        let (ok, said) = check(folder.path(), Path::new("match.yaml"));
        assert!(ok, "docs/verdicts.md, `{example}`:\n{said}");
    }
}

#[test]
fn waits_are_as_long_as_they_are_said_to_be() {
    let page = read("docs/design/certainty.md");
    let row = Regex::new(r"(?m)^\|.*\| ([0-9]+) ms \| `([A-Z_]+)` \|").expect("a pattern");
    let said: BTreeSet<_> = row.captures_iter(&page).map(|found| (found[2].to_owned(), found[1].to_owned())).collect();
    let source = read("src/exec/lane.rs");
    let constant =
        Regex::new(r"const ([A-Z_]+): Duration = Duration::from_(millis|secs)\(([0-9]+)\)").expect("a pattern");
    let are = constant.captures_iter(&source).map(|found| {
        let unit = if &found[2] == "secs" { "000" } else { "" };
        (found[1].to_owned(), format!("{}{unit}", &found[3]))
    });
    assert_eq!(said, are.collect(), "docs/design/certainty.md against src/exec/lane.rs");
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#\s]+)(#[^)\s]*)?\)").expect("a pattern");
    let mut broken = Vec::new();
    for page in pages() {
        let folder = PathBuf::from(&page).parent().map(Path::to_path_buf).unwrap_or_default();
        for found in link.captures_iter(&read(&page)) {
            let target = &found[1];
            if !target.contains("://") && !root().join(&folder).join(target).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken links: {broken:#?}");
}

/// All sources in which causes are made, without their tests.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("sources are there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("utf-8").to_owned();
        if path.is_dir() {
            found.extend(sources(&format!("{folder}/{name}")));
        } else if !name.contains("tests") {
            let text = fs::read_to_string(&path).expect("readable");
            let text = text.split("#[cfg(test)]\nmod tests {").next().expect("a beginning").to_owned();
            found.push((format!("{folder}/{name}"), text));
        }
    }
    found
}

/// Codes as they stand in the sources; `{…}` for what is filled in.
fn codes() -> BTreeSet<(String, String)> {
    const FAMILIES: &str = "spawn|build|handshake|connect|tls|rpc|timeout|process|driver|check|script|rules|relay|\
                            service|engine|exec|ready|server|test|limits";
    let literal = Regex::new(&format!(r#""((?:{FAMILIES})(?:\.[A-Za-z0-9{{}}_-]+)+)""#)).expect("a pattern");
    let made = Regex::new(&format!(
        r"(?:Fault::new\(\s*[\w:]+,\s*(?:format!\()?|code: |observed\(|harness\(|harness_error\(|error\(\s*){}",
        literal.as_str()
    ))
    .expect("a pattern");
    // `("ready.exit", text)`
    let paired = Regex::new(&format!(r"\(\s*{},\s*(?:format!|text\b)", literal.as_str())).expect("a pattern");
    // A detail that is added to a code.
    let pushed = Regex::new(r#"code\.push_str\("(\.[a-z-]+)"\)"#).expect("a pattern");
    let handshake = Regex::new(r#""((?:line|version)\.[a-z.-]+)""#).expect("a pattern");
    let waiting =
        Regex::new(r#"=> \("([a-z-]+)", |Phase::\w+, "([a-z-]+)"[,)]|waiting_for: "([a-z-]+)""#).expect("a pattern");
    let mut codes = BTreeSet::new();
    let mut all = |folder: &str, pattern: &Regex, prefix: &str| {
        for (file, text) in sources(folder) {
            for found in pattern.captures_iter(&text) {
                let code = found.iter().skip(1).flatten().next().expect("a group").as_str();
                codes.insert((format!("{prefix}{code}"), file.clone()));
            }
        }
    };
    // Everything that looks like a code is one in the places that do nothing but diagnose.
    all("src/outcome/diagnose", &literal, "");
    all("src/transport", &literal, "");
    all("src/handshake", &handshake, "handshake.");
    for folder in ["src/peer", "src/exec"] {
        all(folder, &made, "");
        all(folder, &paired, "");
    }
    all("src", &pushed, "");
    all("src/exec", &waiting, "timeout.");
    codes
}

/// Words in backticks.
fn words(text: &str) -> BTreeSet<String> {
    Regex::new("`([^`\n]+)`").expect("a pattern").captures_iter(text).map(|c| c[1].to_owned()).collect()
}

/// Whether a page that holds these words explains a code as it stands in the sources.
fn explained(code: &str, page: &BTreeSet<String>) -> bool {
    let pattern = |text: &str| Regex::new(&format!("^{text}$")).expect("a pattern");
    // A detail of a rejection has a table of its own.
    if let Some(found) =
        pattern(r"tls\.rejected\.[^.]+-cert\.by-(?:[a-z]+|\{[a-z]+\})(\{[a-z]+\}|\.[a-z-]+)?").captures(code)
    {
        return found.get(1).is_none_or(|detail| detail.as_str().starts_with('{') || page.contains(detail.as_str()));
    }
    // What the sources fill in may be anything that the page has in its place, and the reverse.
    let filled = Regex::new(r"\\\{[a-z_]*\\\}").expect("a pattern");
    let code_pattern = pattern(&filled.replace_all(&regex::escape(code), r"[A-Za-z.-]*"));
    page.iter().any(|word| {
        let text = word.replace("SIDE", "client").replace("NAME", "any");
        let word_pattern = regex::escape(word).replace("SIDE", "(client|server)").replace("NAME", "[A-Za-z_-]+");
        code_pattern.is_match(&text) || pattern(&word_pattern).is_match(code) || text.starts_with(&format!("{code}."))
    })
}

#[test]
fn every_cause_code_is_explained() {
    let page = words(&read("docs/causes.md"));
    let codes = codes();
    assert!(codes.len() > 60, "only {} codes were found: have the sources moved?", codes.len());
    let missing: Vec<_> = codes.iter().filter(|(code, _)| !explained(code, &page)).collect();
    assert!(missing.is_empty(), "docs/causes.md does not explain: {missing:#?}");
    for found in [".unannounced", "exec.unmatched", "ready.exit", "server.down", "test.failed", "limits.unsupported"] {
        assert!(codes.iter().any(|(code, _)| code == found), "`{found}` is no longer found: has its place changed?");
    }
    assert!(!explained(".new", &page) && !explained("exec.new-thing", &page));
    assert!(!explained("tls.new-thing", &page) && !explained("tls.rejected.client-cert.by-server.new", &page));
}

#[test]
fn every_detail_of_a_refused_certificate_is_explained() {
    let source = read("src/transport/cause.rs");
    let from = source.find("fn certificate").expect("the table of details");
    let to = source.find("fn incompatible").expect("the end of it");
    let detail = Regex::new(r#"=> "([a-z-]+)"|\{\s*"([a-z-]+)"\s*\}"#).expect("a pattern");
    let page = words(&read("docs/causes.md"));
    let missing: Vec<_> = detail
        .captures_iter(&source[from..to])
        .map(|c| format!(".{}", c.iter().skip(1).flatten().next().expect("a group").as_str()))
        .filter(|detail| !page.contains(detail))
        .collect();
    assert!(missing.is_empty(), "docs/causes.md does not explain: {missing:?}");
}

/// All names of properties below a schema.
fn properties(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(own)) = map.get("properties") {
                names.extend(own.keys().cloned());
            }
            map.values().for_each(|value| properties(value, names));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, names)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_language_is_explained() {
    for (schema, page) in [
        ("schemas/scenario.schema.json", &["docs/scenario-language.md", "docs/peers.md", "docs/exec-peers.md"][..]),
        ("schemas/peer.schema.json", &["docs/peers.md", "docs/exec-peers.md"][..]),
    ] {
        let mut names = BTreeSet::new();
        properties(&serde_json::from_str(&read(schema)).expect("a schema"), &mut names);
        let told: String = page.iter().map(|page| read(page)).collect();
        let told = words(&told);
        let missing: Vec<_> = names.iter().filter(|name| !told.contains(*name)).collect();
        assert!(missing.is_empty(), "{page:?} do not explain these keys: {missing:?}");
    }
}

#[test]
fn the_vocabulary_of_expressions_is_explained() {
    let told = words(&read("docs/expressions.md"));
    for axis in soupscen::axis::table() {
        assert!(told.contains(axis.name), "docs/expressions.md does not name the axis `{}`", axis.name);
        for value in axis.values {
            assert!(told.contains(value.name), "docs/expressions.md does not name `{}` of `{}`", value.name, axis.name);
            for (fact, _) in value.facts {
                let name = format!("{}.{fact}", axis.name);
                // Both keys have the same facts.
                let name = name.replace("client_key.", "key.");
                assert!(told.contains(&name), "docs/expressions.md does not name the fact `{name}`");
            }
        }
    }
    for name in soupscen::filter::TEXT_NAMES {
        assert!(told.contains(name), "docs/expressions.md does not name `{name}`");
    }
}

#[test]
fn every_message_of_the_contract_is_explained() {
    let page = read("docs/driver-contract.md");
    let source = read("src/peer/driver/message.rs");
    let to = source.find("/// What a driver says of itself").expect("the end of the messages");
    let variant = Regex::new(r"(?m)^    ([A-Z][A-Za-z]+)(?: \{|\(|,)").expect("a pattern");
    let field = Regex::new(r"(?m)^        ([a-z_]+): ").expect("a pattern");
    let snake = Regex::new("([a-z])([A-Z])").expect("a pattern");
    for found in variant.captures_iter(&source[..to]).filter(|found| &found[1] != "Unknown") {
        let name = snake.replace_all(&found[1], "${1}_$2").to_lowercase();
        assert!(page.contains(&format!("`{name}")), "docs/driver-contract.md does not name the message `{name}`");
    }
    for found in field.captures_iter(&source[..to]).filter(|found| &found[1] != "rest") {
        assert!(page.contains(&found[1]), "docs/driver-contract.md does not name the field `{}`", &found[1]);
    }
}
