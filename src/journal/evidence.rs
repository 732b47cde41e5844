//! Folders of evidence for people: `evidence/<case key>/` in the run's folder, one for each red
//! case. Everything in them is in the journal as well; here it can be opened without a tool.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::Serialize;

use super::RunFolder;
use crate::event::{Attempt, CaseRecord};
use crate::outcome::{Ending, Phase};

/// Folders that one run makes at most; a run with more red cases has one problem, not thousands.
pub const FOLDERS: u64 = 1000;

/// Writes the folder of a case and names it in each attempt.
///
/// # Errors
/// When a file cannot be written.
pub fn write(run: &RunFolder, record: &mut CaseRecord) -> io::Result<()> {
    let name = format!("evidence/{}", record.key);
    let folder = run.path().join(&name);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    for (number, attempt) in (1..).zip(&mut record.attempts) {
        attempt.folder = Some(name.clone());
        outputs(&folder, number, attempt)?;
    }
    if let Some(rule) = rule(record) {
        fs::write(folder.join("rule.yaml"), rule)?;
    }
    fs::write(folder.join("case.json"), serde_json::to_vec_pretty(&*record)?)
}

/// A file to include that makes just this failure a known limitation.
#[derive(Serialize)]
struct RuleFile {
    soupscen: u8,
    expectations: [Rule; 1],
}

#[derive(Serialize)]
struct Rule {
    id: String,
    when: String,
    outcome: &'static str,
    at: Phase,
    #[serde(rename = "match")]
    matching: BTreeMap<&'static str, String>,
    reason: &'static str,
}

/// The rule for a failure whose phase and cause are known; a person is to widen it and say why.
fn rule(record: &CaseRecord) -> Option<String> {
    let seen = &record.attempts.last()?.observation;
    let fails = matches!(seen.ending, Ending::Failed | Ending::TimedOut | Ending::Crashed);
    let (phase, cause) = (seen.phase.filter(|_| fails)?, seen.cause.as_ref()?);
    let axes = record.axes.iter().map(|(axis, value)| (axis.as_str(), value.as_str()));
    let same: Vec<_> = axes
        .chain([("script", record.script.as_str())])
        .map(|(name, value)| format!("{name} == {}", word(value)))
        .collect();
    let rule = Rule {
        id: format!("{}-{}", record.script, record.key),
        when: same.join(" and "),
        // Whichever way: `failed` is any of them.
        outcome: "failed",
        at: phase,
        matching: BTreeMap::from([("cause", cause.code.clone())]),
        reason: "say why; leave out of `when` what does not matter",
    };
    serde_yaml::to_string(&RuleFile { soupscen: 1, expectations: [rule] }).ok()
}

/// A value as expressions take it.
fn word(value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if plain { value.to_owned() } else { format!("{value:?}") }
}

fn outputs(folder: &Path, number: u32, attempt: &Attempt) -> io::Result<()> {
    for output in &attempt.output {
        // Roles are `client NAME` and `server NAME`; names may hold anything.
        let role: String = output.role.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        fs::write(folder.join(format!("attempt-{number}-{role}.{}", output.stream)), &output.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn a_case_has_its_record_and_its_peers_output_in_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(root.path(), 0, 1).unwrap();
        let attempts = vec![samples::full_attempt(samples::rejected())];
        let mut record = samples::case("kv/put-get", crate::outcome::Expected::Passed, attempts);
        let said: usize = record.attempts[0].output.len();
        write(&run, &mut record).unwrap();
        let folder = run.path().join(record.attempts[0].folder.as_deref().unwrap());
        let text = fs::read_to_string(folder.join("case.json")).unwrap();
        assert_eq!(serde_json::from_str::<CaseRecord>(&text).unwrap(), record);
        assert!(said > 0);
        assert!(folder.join("rule.yaml").is_file());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), said + 2);
    }
}
