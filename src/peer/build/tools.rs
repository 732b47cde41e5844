//! The tools of a build: where they are and which version, as parts of the key. Read by `build`.

use std::path::PathBuf;

use super::{BuildError, Task, versions};
use crate::process::environment::find_program;
use crate::process::{Inherit, Program};
use crate::scenario::model;

/// What is said of a tool that the scenario does not tell how to get.
pub(super) const UNDECLARED: &str = "nothing here says how; `tools: { NAME: { install: … } }` in the build would";

/// A tool that was found.
pub(super) struct ToolVersion {
    /// Its name in the scenario.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it prints as its version; empty where it is not asked.
    pub(super) version: String,
}

/// Finds all tools that a build declares or visibly uses, and asks the declared ones for their versions.
pub(super) async fn find_all(task: Task<'_>, build: &model::Build) -> Result<Vec<ToolVersion>, BuildError> {
    let folder = task.folder();
    let path = std::env::var_os("PATH");
    let find = |tool: &str, command: String, install: &str| {
        find_program(tool, Some(&folder), path.as_deref()).map_err(|_| BuildError::MissingTool {
            peer: task.peer.name.clone(),
            tool: tool.to_owned(),
            command,
            install: install.to_owned(),
        })
    };
    let mut asked = Vec::new();
    for (written, tool) in &build.tools {
        let name = task.named(written)?;
        let use_of_it = build.run.iter().find(|run| run.first() == Some(written));
        let argv: Vec<String> = std::iter::once(&name).chain(&tool.version).cloned().collect();
        let found = find(&name, use_of_it.unwrap_or(&argv).join(" "), &tool.install)?;
        let program =
            Program { folder: Some(folder.clone()), inherit: Inherit::All, merge_output: true, ..Program::new(argv) };
        asked.push(async move {
            // A tool that does not tell its version is found all the same; its path must do then.
            let version = versions::output_of(task.spawner, &program).await.unwrap_or_default();
            ToolVersion { name, path: found, version }
        });
    }
    let mut tools = futures::future::join_all(asked).await;
    for run in &build.run {
        let Some(first) = run.first() else { continue };
        // A path may be made by an earlier command.
        let made = first.contains('/') || first.contains("{{");
        if !made && !build.tools.contains_key(first) {
            let found = find(first, run.join(" "), UNDECLARED)?;
            tools.push(ToolVersion { name: first.clone(), path: found, version: String::new() });
        }
    }
    Ok(tools)
}
