//! Which versions of a peer's components are under test. Probes run once per build and are kept
//! with it; those of peers that are not built run every time, since nothing tells when they change.
//! Read by `build`.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::store::KnownVersion;
use super::{Task, command};
use crate::process::capture::{Capture, Tail};
use crate::process::{Inherit, Program, Spawner};
use crate::scenario::model::VersionProbe;

/// Time for one probe.
const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Output of a probe that is looked at: its beginning.
const PROBE_BYTES: usize = 64 * 1024;
/// Longest version.
const VERSION_CHARS: usize = 200;

/// What was found.
pub(super) struct Probed {
    /// Component → version.
    pub(super) versions: BTreeMap<String, String>,
    /// Why others were not found.
    pub(super) notes: Vec<String>,
    /// Something was found that was not known.
    pub(super) new: bool,
}

/// Runs the probes of a peer that are not known yet, all at the same time, and adds them to what is.
pub(super) async fn probe(task: Task<'_>, known: &mut BTreeMap<String, KnownVersion>) -> Probed {
    let mut probed = Probed { versions: BTreeMap::new(), notes: Vec::new(), new: false };
    let mut asked = Vec::new();
    for (component, probe) in &task.peer.versions {
        let digest = digest(probe);
        match (probe, known.get(component)) {
            (VersionProbe::Fixed(text), _) => {
                probed.versions.insert(component.clone(), text.clone());
            }
            (_, Some(found)) if found.probe == digest => {
                probed.versions.insert(component.clone(), found.version.clone());
            }
            (VersionProbe::Run { run, pattern }, _) => asked.push(async move {
                let found = ask(task, run, pattern.as_deref()).await;
                (component, digest, found)
            }),
        }
    }
    for (component, probe, found) in futures::future::join_all(asked).await {
        match found {
            Ok(version) => {
                probed.new = true;
                probed.versions.insert(component.clone(), version.clone());
                known.insert(component.clone(), KnownVersion { probe, version });
            }
            Err(error) => probed.notes.push(format!(
                "the version of `{component}` of peer `{}` cannot be told: {error}; rules that depend on it are void",
                task.peer.name
            )),
        }
    }
    probed
}

fn digest(probe: &VersionProbe) -> String {
    let text = format!("{probe:?}");
    hex::encode(Sha256::digest(text)).chars().take(16).collect()
}

async fn ask(task: Task<'_>, run: &[String], pattern: Option<&str>) -> Result<String, String> {
    let argv = task.argv(run).map_err(|error| error.to_string())?;
    let line = command::quoted(&argv);
    let program =
        Program { folder: Some(task.folder()), inherit: Inherit::All, merge_output: true, ..Program::new(argv) };
    let text = output_of(task.spawner, &program).await?;
    extract(&text, pattern).map_err(|why| format!("`{line}` printed `{}`, {why}", beginning(&text)))
}

/// What a program prints, both outputs together, bounded in time and size. Its exit status does not
/// matter: some tools tell their version and fail.
pub(super) async fn output_of(spawner: &Spawner, program: &Program) -> Result<String, String> {
    let mut running = spawner.spawn(program).await.map_err(|error| error.to_string())?;
    let Some(out) = running.stdout.take() else { return Ok(String::new()) };
    let capture = Capture::with(out, Tail::new(PROBE_BYTES, 0), |_| ());
    let name = program.argv.first().cloned().unwrap_or_default();
    tokio::time::timeout(PROBE_WITHIN, capture.ended())
        .await
        .map_err(|_| format!("`{name}` did not end within {} s", PROBE_WITHIN.as_secs()))?;
    let kept = capture.snapshot().bytes();
    Ok(String::from_utf8_lossy(kept.get(..PROBE_BYTES).unwrap_or(&kept)).into_owned())
}

fn extract(text: &str, pattern: Option<&str>) -> Result<String, String> {
    let version = match pattern {
        None => text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or("which is no version")?,
        Some(pattern) => {
            let regex = Regex::new(pattern).map_err(|error| format!("and `{pattern}` is no pattern: {error}"))?;
            let found = regex.captures(text).ok_or_else(|| format!("in which `{pattern}` finds nothing"))?;
            found.get(1).or_else(|| found.get(0)).map_or("", |m| m.as_str()).trim()
        }
    };
    Ok(version.chars().take(VERSION_CHARS).collect())
}

fn beginning(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(VERSION_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_out_by_pattern_or_first_line() {
        let text = "\ngo version go1.25.4 linux/amd64\nmore";
        assert_eq!(extract(text, Some(r"go(\d+\.\d+\.\d+)")).unwrap(), "1.25.4");
        assert_eq!(extract(text, Some(r"\d+\.\d+")).unwrap(), "1.25");
        assert_eq!(extract(text, None).unwrap(), "go version go1.25.4 linux/amd64");
        assert!(extract(text, Some("nothing")).unwrap_err().contains("finds nothing"));
        assert!(extract("", None).is_err());
        assert!(extract("x", Some("(")).unwrap_err().contains("is no pattern"));
    }
}
