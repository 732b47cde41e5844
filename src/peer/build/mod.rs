//! Builds external peers and finds their versions. Reads `process` for running tools and
//! `scenario::template`; read by `exec`, which turns [`BuildLine`] into events.
//!
//! Where things are, below the folder that [`Builder::new`] is given:
//!
//! ```text
//! <peer>/lock                  held by whoever builds this peer
//! <peer>/<key>.json            a finished build: its output, the versions found
//! <peer>/<key>-<random>/       an output, `{{ output }}` of its commands
//! <peer>/<key>-<random>.lock   held, shared, by every process that uses it
//! ```
//!
//! An output is built aside under a name of its own and *never moves*: virtual environments hold
//! their absolute path in every script. What is renamed into place, in one step, is the small record
//! that points to it. So a killed build leaves nothing that could be taken for a finished one, a
//! rebuild does not pull the files from under a run that uses the old ones, and a cache folder that
//! was moved or copied is noticed by the path in its records and built again.

mod command;
mod error;
mod inputs;
mod store;
mod tools;
mod versions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub use error::BuildError;

use crate::process::Spawner;
use crate::scenario::model;
use crate::scenario::template::Renderer;
use store::{Found, Output, Store};
use tools::ToolVersion;

/// Changes when a key must not match one of an older soupscen.
const KEY_FORMAT: u32 = 1;

/// What happens during a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildLine {
    /// A command starts.
    Started {
        /// As a shell would be given it.
        command: String,
    },
    /// A line of its output.
    Output {
        /// Without its end, bounded, with whatever colours it holds.
        line: String,
    },
    /// Something else has to come to its end first.
    Waiting {
        /// What, a sentence.
        text: String,
    },
}

/// A peer that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The output of its build; `None` for a peer that is not built.
    pub output: Option<PathBuf>,
    /// Nothing had to be built.
    pub cached: bool,
    /// Component → version; the peer's own is `self`. Without those that could not be found.
    pub versions: BTreeMap<String, String>,
    /// Why versions could not be found, sentences.
    pub notes: Vec<String>,
}

/// Builds peers. Holds on to the outputs that it gave, so that no other process removes them.
#[derive(Debug)]
pub struct Builder {
    cache: PathBuf,
    rebuild: bool,
    spawner: Spawner,
    in_use: Mutex<Vec<Output>>,
}

impl Builder {
    /// Keeps builds in `cache`, which is made when absent. With `rebuild`, builds even what is there.
    #[must_use]
    pub fn new(cache: PathBuf, rebuild: bool, spawner: Spawner) -> Self {
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        Self { cache, rebuild, spawner, in_use: Mutex::default() }
    }

    /// Builds a peer if it has to be, and finds its versions. There is no time limit; dropping the
    /// future ends whatever it started.
    ///
    /// # Errors
    /// See [`BuildError`]: a missing tool, a failed command, inputs that do not exist, a cache
    /// folder that cannot be written.
    pub async fn build(
        &self,
        peer: &model::Peer,
        mut on_line: impl FnMut(BuildLine) + Send,
    ) -> Result<Built, BuildError> {
        let Some(build) = &peer.build else {
            let task = Task { peer, output: None, spawner: &self.spawner };
            let found = versions::probe(task, &mut BTreeMap::new()).await;
            return Ok(Built { output: None, cached: true, versions: found.versions, notes: found.notes });
        };
        let task = Task { peer, output: None, spawner: &self.spawner };
        let (tools, files) =
            futures::future::try_join(tools::find_all(task, build), inputs::collect(peer, build, &self.cache)).await?;
        let key = key(peer, build, &tools, &files);
        let store = Store::open(&self.cache, &peer.name)?;
        if let Some(found) = self.find(&store, &key) {
            return self.finish(peer, &store, &key, found, true).await;
        }
        let waiting =
            || BuildLine::Waiting { text: format!("waiting for another soupscen that builds peer `{}`", peer.name) };
        let lock = store.lock_for_building(|| on_line(waiting())).await?;
        // Whoever was waited for may have built just this.
        if let Some(found) = self.find(&store, &key) {
            return self.finish(peer, &store, &key, found, true).await;
        }
        let output = store.new_output(&key)?;
        let task = Task { output: Some(output.path()), ..task };
        if let Err(error) = command::run_all(task, build, &mut on_line).await {
            store.discard(output);
            return Err(error);
        }
        let built = self.finish(peer, &store, &key, Found::new(output), false).await?;
        store.remove_garbage(&key);
        drop(lock);
        Ok(built)
    }

    /// What there is of a peer, without building it: `None` when it could be built.
    ///
    /// # Errors
    /// Why it cannot be had: a missing tool, inputs that do not exist.
    pub async fn look(&self, peer: &model::Peer) -> Result<Option<Built>, BuildError> {
        let Some(build) = &peer.build else { return self.build(peer, |_| {}).await.map(Some) };
        let task = Task { peer, output: None, spawner: &self.spawner };
        let (tools, files) =
            futures::future::try_join(tools::find_all(task, build), inputs::collect(peer, build, &self.cache)).await?;
        let key = key(peer, build, &tools, &files);
        let store = Store::open(&self.cache, &peer.name)?;
        match store.find(&key) {
            Some(found) => self.finish(peer, &store, &key, found, true).await.map(Some),
            None => Ok(None),
        }
    }

    fn find(&self, store: &Store, key: &str) -> Option<Found> {
        if self.rebuild { None } else { store.find(key) }
    }

    /// Completes the versions, and writes the record if anything in it is new.
    async fn finish(
        &self,
        peer: &model::Peer,
        store: &Store,
        key: &str,
        mut found: Found,
        cached: bool,
    ) -> Result<Built, BuildError> {
        let task = Task { peer, output: Some(found.output.path()), spawner: &self.spawner };
        let probed = versions::probe(task, &mut found.versions).await;
        if !cached || probed.new {
            store.record(key, &found)?;
        }
        let output = Some(found.output.path().to_owned());
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).push(found.output);
        Ok(Built { output, cached, versions: probed.versions, notes: probed.notes })
    }
}

/// What every step works on.
#[derive(Clone, Copy)]
struct Task<'a> {
    peer: &'a model::Peer,
    output: Option<&'a Path>,
    spawner: &'a Spawner,
}

impl Task<'_> {
    /// The peer's folder, absolute.
    fn folder(&self) -> PathBuf {
        std::path::absolute(&self.peer.folder).unwrap_or_else(|_| self.peer.folder.clone())
    }

    /// Fills in `{{ output }}`, `{{ folder }}` and `{{ vars.NAME }}`, and makes the program's path absolute: a relative
    /// one with a `/` starts from the peer's folder.
    fn argv(&self, command: &[String]) -> Result<Vec<String>, BuildError> {
        let folder = self.folder();
        let mut names: Map<String, Value> = self.peer.variant_names().collect();
        let mut name = |key: &str, path: &Path| names.insert(key.to_owned(), Value::from(path.to_string_lossy()));
        name("folder", &folder);
        if let Some(output) = self.output {
            name("output", output);
        }
        names.insert("vars".to_owned(), self.peer.vars.clone().into());
        let renderer = Renderer::new(&names);
        let mut argv = command.iter().map(|text| self.filled(&renderer, text)).collect::<Result<Vec<_>, _>>()?;
        if let Some(program) = argv.first_mut()
            && program.contains('/')
            && Path::new(program).is_relative()
        {
            *program = folder.join(&*program).to_string_lossy().into_owned();
        }
        Ok(argv)
    }

    /// A name with `{{ vars.NAME }}` filled in.
    fn named(&self, text: &str) -> Result<String, BuildError> {
        let names = Map::from_iter([("vars".to_owned(), self.peer.vars.clone().into())]);
        self.filled(&Renderer::new(&names), text)
    }

    fn filled(&self, renderer: &Renderer, text: &str) -> Result<String, BuildError> {
        renderer.text(text).map_err(|error| BuildError::Template {
            peer: self.peer.name.clone(),
            text: text.to_owned(),
            error: error.to_string(),
        })
    }
}

/// What a build depends on, as 32 hexadecimal digits. Every part is preceded by its length, so that
/// no two different sets of parts look the same.
fn key(peer: &model::Peer, build: &model::Build, tools: &[ToolVersion], files: &[inputs::InputFile]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&KEY_FORMAT.to_le_bytes());
    // Some tools leave the path of the sources in what they build (an editable Python install).
    part(std::path::absolute(&peer.folder).unwrap_or_default().as_os_str().as_encoded_bytes());
    for command in &build.run {
        part(b"run");
        for word in command {
            part(word.as_bytes());
        }
    }
    if build.run.iter().flatten().any(|word| word.contains("vars")) {
        part(b"vars");
        part(serde_json::to_string(&peer.vars).unwrap_or_default().as_bytes());
    }
    for (name, value) in &peer.variant {
        part(b"variant");
        part(name.as_bytes());
        part(value.as_bytes());
    }
    for tool in tools {
        part(b"tool");
        part(tool.name.as_bytes());
        part(tool.path.as_os_str().as_encoded_bytes());
        part(tool.version.as_bytes());
    }
    for file in files {
        part(b"input");
        part(file.name.as_bytes());
        part(&file.digest);
    }
    hex::encode(hash.finalize()).chars().take(32).collect()
}
