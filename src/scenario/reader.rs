//! Reads the scenario's own file and everything that it includes, each once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::Sink;
use super::files::{Files, normal};
use super::schema::{self, Shape};
use super::yaml::{self, Node, short};
use crate::diag::{Diagnostic, SourceId, SourceMap, Span, did_you_mean};

/// More files than this are not read for one scenario.
const MAX_FILES: usize = 256;

/// Bytes of U+FFFD, which stands for what is not UTF-8.
const REPLACEMENT_LEN: u32 = 3;

/// One file that was read.
pub(super) struct Document {
    /// Its content, a map of the right version.
    pub(super) node: Node,
    /// Its folder, for the paths in it.
    pub(super) folder: PathBuf,
    /// It was included.
    pub(super) included: bool,
}

/// What reading a scenario collects.
pub(super) struct World<'f> {
    pub(super) files: &'f dyn Files,
    pub(super) sources: SourceMap,
    pub(super) sink: Sink,
    /// Something could not be read, so that names may exist which are not known here.
    pub(super) incomplete: bool,
    /// Peer files that were read, by identity.
    peer_files: Vec<(PathBuf, Option<Arc<Document>>)>,
    read: usize,
}

/// A file on the way from the scenario to what is read now.
struct Including {
    identity: PathBuf,
    /// Where its parent includes it.
    at: Option<Span>,
}

impl<'f> World<'f> {
    pub(super) fn new(files: &'f dyn Files) -> Self {
        Self {
            files,
            sources: SourceMap::default(),
            sink: Sink::default(),
            incomplete: false,
            peer_files: Vec::new(),
            read: 0,
        }
    }

    /// The scenario's file first, then what it includes, in the order of mention.
    pub(super) fn documents(&mut self, path: &Path) -> Vec<Document> {
        let mut documents = Vec::new();
        let mut seen = Vec::new();
        self.include(path, None, &mut Vec::new(), &mut seen, &mut documents);
        documents
    }

    fn include(
        &mut self,
        path: &Path,
        at: Option<Span>,
        way: &mut Vec<Including>,
        seen: &mut Vec<PathBuf>,
        documents: &mut Vec<Document>,
    ) {
        let identity = self.files.identity(path);
        if let Some(position) = way.iter().position(|file| file.identity == identity) {
            let mut error = Diagnostic::error("include-cycle", format!("`{}` includes itself", path.display()))
                .help("take the include out, or move what both need into a third file");
            if let Some(span) = at {
                error = error.at(span, "which closes the circle");
            }
            for file in &way[position + 1..] {
                if let Some(span) = file.at {
                    error = error.at(span, "on the way");
                }
            }
            self.sink.push(error);
            return;
        }
        if seen.contains(&identity) {
            return;
        }
        seen.push(identity.clone());
        let Some(document) = self.document::<schema::ScenarioFile>(path, at) else { return };
        let folder = document.folder.clone();
        let includes = self.includes(&document.node);
        documents.push(document);
        way.push(Including { identity, at });
        for (file, span) in includes {
            self.include(&normal(&folder.join(file)), Some(span), way, seen, documents);
        }
        way.pop();
    }

    fn includes(&mut self, node: &Node) -> Vec<(String, Span)> {
        let yaml::Kind::Map(entries) = &node.kind else { return Vec::new() };
        let Some(entry) = entries.iter().find(|e| e.key == "include" && !e.value.is_null()) else { return Vec::new() };
        let files = self.sink.texts(&entry.value, "`include`", true).unwrap_or_default();
        files.into_iter().map(|file| (file.value, file.span)).collect()
    }

    /// A file of peers that `from` names; each is read once.
    pub(super) fn peer_file(&mut self, path: &Path, at: Span) -> Option<Arc<Document>> {
        let identity = self.files.identity(path);
        if let Some((_, document)) = self.peer_files.iter().find(|(known, _)| *known == identity) {
            return document.clone();
        }
        let document = self.document::<schema::PeerFile>(path, Some(at)).map(Arc::new);
        if let Some(document) = &document {
            self.sink.fields::<schema::PeerFile>(&document.node);
        }
        self.peer_files.push((identity, document.clone()));
        document
    }

    /// Reads one file and checks its version. `at` is where it is mentioned.
    fn document<S: Shape>(&mut self, path: &Path, at: Option<Span>) -> Option<Document> {
        let (source, text) = self.text(path, at)?;
        let mut found = Vec::new();
        let node = yaml::parse(source, &text, &mut found);
        self.sink.extend(found);
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                self.sink.push(*error);
                self.incomplete = true;
                return None;
            }
        };
        if !self.right_version::<S>(&node) {
            self.incomplete = true;
            return None;
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Some(Document { node, folder, included: at.is_some() })
    }

    /// Text of a file, with a diagnostic where it cannot be had.
    fn text(&mut self, path: &Path, at: Option<Span>) -> Option<(SourceId, Arc<str>)> {
        let name = path.display().to_string();
        let complain = |world: &mut Self, mut error: Diagnostic| {
            error.labels.extend(at.map(|span| crate::diag::Label { span, text: "asked for here".to_owned() }));
            world.sink.push(error);
            world.incomplete = true;
        };
        self.read += 1;
        if self.read > MAX_FILES {
            complain(
                self,
                Diagnostic::error("too-many-files", format!("the scenario has more than {MAX_FILES} files")),
            );
            return None;
        }
        let bytes = match self.files.read(path) {
            Ok(bytes) => bytes,
            Err(problem) => {
                let mut error = Diagnostic::error(problem.code(), format!("`{name}`: {problem}"));
                if problem == super::files::FileProblem::Missing
                    && let Some(help) = self.neighbour(path)
                {
                    error = error.help(help);
                }
                complain(self, error);
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text: Arc<str> = text.into();
                Some((self.sources.add(name, Arc::clone(&text)), text))
            }
            Err(error) => {
                let start = u32::try_from(error.utf8_error().valid_up_to()).unwrap_or(u32::MAX);
                let byte = error.as_bytes().get(start as usize).copied().unwrap_or_default();
                // Up to the first wrong byte the lossy text has the same offsets.
                let source = self.sources.add(name, String::from_utf8_lossy(error.as_bytes()));
                let span = Span { source, start, end: start + REPLACEMENT_LEN };
                self.sink.error(
                    "invalid-utf8",
                    span,
                    format!("the file is not UTF-8: byte 0x{byte:02x} makes no character"),
                    "here",
                    "save the file as UTF-8",
                );
                self.incomplete = true;
                None
            }
        }
    }

    fn neighbour(&self, path: &Path) -> Option<String> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name()?.to_str()?;
        let names = self.files.names(folder);
        let meant = did_you_mean(name, names.iter().map(String::as_str))?;
        Some(format!("did you mean `{}`?", folder.join(meant).display()))
    }

    fn right_version<S: Shape>(&mut self, node: &Node) -> bool {
        let yaml::Kind::Map(entries) = &node.kind else {
            self.sink.fields::<S>(node);
            return false;
        };
        let help = "write `soupscen: 1`";
        let Some(entry) = entries.iter().find(|e| e.key == "soupscen") else {
            let place = entries.first().map_or(node.span, |e| e.span);
            let message = format!("{} needs `soupscen: 1`", S::WHAT);
            self.sink.error("missing-version", place, message, "before this", "write `soupscen: 1` on the first line");
            return true;
        };
        match &entry.value.kind {
            yaml::Kind::Scalar(scalar) if scalar.text == "1" => true,
            yaml::Kind::Scalar(scalar) if scalar.plain && scalar.text.parse::<u64>().is_ok() => {
                self.sink.error(
                    "unknown-version",
                    entry.value.span,
                    format!("version {} of the scenario language is not known", short(&scalar.text)),
                    "not known",
                    &format!(
                        "soupscen {} knows version 1; a newer soupscen may know this one",
                        env!("CARGO_PKG_VERSION")
                    ),
                );
                false
            }
            _ => {
                self.sink.error(
                    "wrong-type",
                    entry.value.span,
                    "`soupscen` must be the number 1",
                    "not a version",
                    help,
                );
                true
            }
        }
    }
}

/// Checks a name that the user gives to something.
pub(super) fn legal_name(sink: &mut Sink, name: &str, span: Span, what: &str) -> bool {
    const LONGEST: usize = 64;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | ':');
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(good) && name != crate::axis::UNSET {
        return true;
    }
    let message = format!("`{}` cannot name {what}", short(name));
    let help = if name == crate::axis::UNSET {
        "`unset` is what an axis has that does not apply".to_owned()
    } else {
        format!("names have letters, digits and `-`, `_`, `.`, `+`, `:`, at most {LONGEST} of them")
    };
    sink.error("bad-name", span, message, "not a name", &help);
    false
}
