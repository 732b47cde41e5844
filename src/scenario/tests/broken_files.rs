//! Files that cannot be read at all: one clear error each, in bounded time and memory.

use std::path::Path;

use super::{GOOD, problems, text};
use crate::diag::render;
use crate::scenario::disk::DiskFiles;
use crate::scenario::{MemoryFiles, load};

#[track_caller]
fn one(content: &str) -> String {
    let problems = problems(text(content));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn empty_files() {
    for content in ["", "   \n\n", "# only a comment\n", "---\n", "null\n", "\u{feff}"] {
        assert!(one(content).starts_with("empty-file a.yaml:1:1"), "{content:?}: {}", one(content));
    }
}

#[test]
fn tabs() {
    let found = one("soupscen: 1\nmatrix:\n\taxes: {}\n");
    assert_eq!(found, "tab a.yaml:3:1 \"\\t\" | replace it by spaces, two for each level");
    assert!(one("soupscen: 1\npeers:\n  rust:\n  \tbuiltin: {}\n").starts_with("tab a.yaml:4:3"));
}

#[test]
fn unclosed() {
    assert!(
        one("soupscen: 1\nname: \"abc\nmatrix: {}\n").starts_with("unclosed-quote a.yaml:2:7"),
        "{}",
        one("soupscen: 1\nname: \"abc\nmatrix: {}\n")
    );
    assert!(
        one("soupscen: 1\ninclude: [a, b\n").starts_with("unclosed-bracket"),
        "{}",
        one("soupscen: 1\ninclude: [a, b\n")
    );
    assert!(
        one("soupscen: 1\npeers: { a: { b: c }\n").starts_with("unclosed-bracket"),
        "{}",
        one("soupscen: 1\npeers: { a: { b: c }\n")
    );
    assert!(one("soupscen: 1\nname: a: b\n").starts_with("syntax a.yaml:2:8"), "{}", one("soupscen: 1\nname: a: b\n"));
    assert!(one("soupscen: 1\nname: @x\n").starts_with("syntax a.yaml:2:7"));
    assert!(
        one("soupscen: 1\nname: *x\n").starts_with("unknown-alias a.yaml:2:7"),
        "{}",
        one("soupscen: 1\nname: *x\n")
    );
}

#[test]
fn several_documents() {
    assert!(one("soupscen: 1\n---\nsoupscen: 1\n").starts_with("multiple-documents a.yaml:2:1"));
}

#[test]
fn alias_bombs_and_deep_nesting_end_early() {
    let mut bomb = String::from("soupscen: 1\nvars:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (from, to) in "abcdefghi".chars().zip("bcdefghij".chars()) {
        bomb.push_str(&format!(
            "  {to}: &{to} [*{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}]\n"
        ));
    }
    assert!(one(&bomb).starts_with("too-large a.yaml:"), "{}", one(&bomb));
    assert!(one("soupscen: 1\nvars: &a { b: *a }\n").starts_with("recursive-alias a.yaml:2:"));
    let deep = format!("soupscen: 1\nvars: {}\n", "[".repeat(100_000));
    assert!(one(&deep).starts_with("too-deep"), "{}", one(&deep));
    let deep: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(one(&deep).starts_with("too-deep"), "{}", one(&deep));
}

#[test]
fn a_file_full_of_mistakes_is_answered_in_bounds() {
    let mut content = String::from("soupscen: 1\n");
    (0..50_000).for_each(|n| content.push_str(&format!("k{n}: 1\n")));
    let (sources, problems) = text(&content).unwrap_err();
    assert!(problems.len() <= 501, "{}", problems.len());
    assert_eq!(problems.last().unwrap().code, "too-many");
    assert!(render(&sources, &problems, false).len() < 100_000);
}

#[test]
fn not_a_map_and_versions() {
    assert!(one("- a\n- b\n").starts_with("wrong-type a.yaml:1:1"));
    assert!(one("hello\n").starts_with("wrong-type a.yaml:1:1"));
    let found = one("soupscen: 2\nfrobnicate: 1\n");
    assert!(found.starts_with("unknown-version a.yaml:1:11 \"2\"") && found.contains("knows version 1"), "{found}");
    assert!(one(&GOOD.replace("soupscen: 1\n", "")).starts_with("missing-version a.yaml:1:1"));
    assert!(one(&GOOD.replace("soupscen: 1\n", "soupscen: one\n")).starts_with("wrong-type a.yaml:1:11"));
}

#[test]
fn invalid_utf8_has_a_place() {
    let files = MemoryFiles::new().with("a.yaml", b"soupscen: 1\nname: \xe4pfel\n");
    let found = problems(load(Path::new("a.yaml"), &files));
    assert_eq!(found, ["invalid-utf8 a.yaml:2:7 \"\u{fffd}\" | save the file as UTF-8"]);
}

#[test]
fn huge_missing_and_special_files() {
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.yaml");
    std::fs::File::create(&huge).unwrap().set_len(100 * 1024 * 1024).unwrap();
    let code = |path: &Path| load(path, &DiskFiles).unwrap_err().1.iter().map(|d| d.code).collect::<Vec<_>>();
    assert_eq!(code(&huge), ["too-large"]);
    assert_eq!(code(folder.path()), ["is-a-folder"]);
    let (_, found) = load(&folder.path().join("hueg.yaml"), &DiskFiles).unwrap_err();
    assert_eq!(found[0].code, "missing-file");
    assert!(found[0].help.as_ref().unwrap().contains("huge.yaml"), "{found:?}");
}

#[test]
fn missing_includes_and_cycles() {
    let files = MemoryFiles::new()
        .with("a.yaml", format!("{GOOD}include: [b.yaml, peers/kw.yaml]\n"))
        .with("peers/kv.yaml", "soupscen: 1\n")
        .with("b.yaml", "soupscen: 1\ninclude: [c.yaml]\n")
        .with("c.yaml", "soupscen: 1\ninclude: [b.yaml, ./a.yaml]\n");
    let found = problems(load(Path::new("a.yaml"), &files));
    assert_eq!(
        found,
        [
            "missing-file a.yaml:30:19 \"peers/kw.yaml\" | did you mean `peers/kv.yaml`?",
            "include-cycle c.yaml:2:11 \"b.yaml\" | take the include out, or move what both need into a third file",
            "include-cycle c.yaml:2:19 \"./a.yaml\" | take the include out, or move what both need into a third file",
        ]
    );
}

#[test]
fn windows_line_ends_and_marks_are_no_problem() {
    super::good(text(&GOOD.replace('\n', "\r\n")));
    super::good(text(&format!("\u{feff}{GOOD}")));
}

#[test]
fn aliases_are_as_deep_as_what_they_stand_for() {
    let nest = |inner: &str| format!("{}{inner}{}", "[".repeat(40), "]".repeat(40));
    let found = one(&format!("soupscen: 1\nvars:\n  a: &a {}\n  b: {}\n", nest("1"), nest("*a")));
    assert!(found.starts_with("too-deep a.yaml:4:"), "{found}");
}

#[test]
fn what_anchors_copy_is_counted() {
    let anchors: String = (0..50).map(|n| format!("&a{n} [")).collect();
    let content = format!("soupscen: 1\nvars: {{ x: {anchors}{}{} }}\n", "1,".repeat(10_000), "]".repeat(50));
    let found = one(&content);
    assert!(found.starts_with("too-large a.yaml:2:"), "{found}");
}
