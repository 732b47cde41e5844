//! Folders of evidence for people: `evidence/<case key>/` in the run's folder, one for each red
//! case. Everything in them is in the journal as well; here it can be opened without a tool.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::RunFolder;
use crate::event::{Attempt, CaseRecord};

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
    fs::write(folder.join("case.json"), serde_json::to_vec_pretty(&*record)?)
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
        assert_eq!(fs::read_dir(&folder).unwrap().count(), said + 1);
    }
}
