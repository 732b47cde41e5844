//! From the templates of a command to a program that can be started.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::{Context, harness};
use crate::dynamic::expect;
use crate::peer::{PeerError, Target};
use crate::process::{Program, Spawner};
use crate::scenario::model::{Arg, ExecCommand};
use crate::scenario::template::Renderer;

/// What all programs of one peer in one case have in common.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The peer, for messages.
    pub peer: String,
    /// Its own folder, absolute: commands run here unless they say otherwise.
    pub folder: PathBuf,
    /// An empty folder of this instance.
    pub scratch: PathBuf,
    /// What templates see.
    pub context: serde_json::Map<String, Value>,
    /// Starts programs.
    pub spawner: Spawner,
}

/// A program with what it reads.
pub(super) struct Rendered {
    pub(super) program: Program,
    pub(super) stdin: Option<Vec<u8>>,
    /// For a shell.
    pub(super) shown: String,
}

impl Rendered {
    /// The same from any folder, with what it reads.
    pub(super) fn by_hand(&self) -> String {
        let input = match &self.stdin {
            Some(input) => format!("printf %s {} | ", quote(&String::from_utf8_lossy(input))),
            None => String::new(),
        };
        match &self.program.folder {
            Some(folder) => format!("(cd {} && {input}{})", quote(&folder.to_string_lossy()), self.shown),
            None => format!("{input}{}", self.shown),
        }
    }
}

impl Setting {
    /// Renders a command. Unlike a variable, an argument that comes out empty is there: it may be a value.
    pub(super) fn render(&self, command: &ExecCommand, context: &Context) -> Result<Rendered, PeerError> {
        let renderer = Renderer::new(context);
        let mut argv = Vec::with_capacity(command.run.len());
        for arg in &command.run {
            match arg {
                Arg::Text(text) => argv.push(self.text(&renderer, text)?),
                Arg::Group { each: None, args, .. } => {
                    for arg in args {
                        argv.push(self.text(&renderer, arg)?);
                    }
                }
                Arg::Group { each: Some(list), args, .. } => {
                    for item in context.get(list).and_then(Value::as_array).into_iter().flatten() {
                        let mut renderer = renderer.clone();
                        renderer.set("item", item);
                        for arg in args {
                            argv.push(self.text(&renderer, arg)?);
                        }
                    }
                }
            }
        }
        if let Some(program) = argv.first_mut()
            && program.contains('/')
            && !program.starts_with('/')
        {
            *program = self.folder.join(&*program).to_string_lossy().into_owned();
        }
        let mut env = Vec::new();
        for (key, value) in &command.env {
            let value = self.text(&renderer, value)?;
            if !value.is_empty() {
                env.push((key.clone(), value));
            }
        }
        let folder = match &command.folder {
            Some(folder) => self.folder.join(self.text(&renderer, folder)?),
            None => self.folder.clone(),
        };
        let stdin = command.stdin.as_ref().map(|text| self.text(&renderer, text)).transpose()?;
        let words = env.iter().map(|(key, value)| format!("{key}={}", quote(value)));
        let shown = words.chain(argv.iter().map(|arg| quote(arg))).collect::<Vec<_>>().join(" ");
        let program = Program { env, folder: Some(folder), ..Program::new(argv) };
        Ok(Rendered { program, stdin: stdin.map(String::into_bytes), shown })
    }

    /// Renders one text.
    pub(super) fn text(&self, renderer: &Renderer, template: &str) -> Result<String, PeerError> {
        let explain = |e| harness("spawn.template", format!("a command of peer `{}`: {e}", self.peer));
        renderer.text(template).map_err(explain)
    }

    /// Writes a value into a file of this instance.
    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, PeerError> {
        let path = self.scratch.join(name);
        let explain = |e| harness("spawn.folder", format!("the value file {} cannot be written: {e}", path.display()));
        std::fs::write(&path, bytes).map_err(explain)?;
        Ok(path)
    }
}

/// What is meant by a value in YAML: text as it is, `$base64`, and other data as JSON.
pub(super) fn bytes_of(value: &Value) -> Bytes {
    match (value, expect::bytes(value)) {
        (_, Some(bytes)) => bytes,
        (Value::String(text), None) => Bytes::copy_from_slice(text.as_bytes()),
        (other, None) => Bytes::from(other.to_string()),
    }
}

/// What templates see of a server that is to be dialled, or started by this program.
pub(super) fn address(target: Option<&Target>, program: &str) -> Value {
    let (host, port, path) = match target {
        Some(Target::Tcp(address)) => (address.ip().to_string(), address.port().to_string(), String::new()),
        Some(Target::Unix(path)) => (String::new(), String::new(), path.to_string_lossy().into_owned()),
        None => Default::default(),
    };
    let address = target.map(ToString::to_string).unwrap_or_default();
    serde_json::json!({ "address": address, "host": host, "port": port, "path": path, "program": program })
}

/// Reads where a server says that it listens. What listens everywhere is dialled on the loopback.
pub(super) fn parse_address(text: &str, folder: &Path) -> Result<Target, String> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(wrong(text)) } else { Ok(Target::Unix(folder.join(path))) };
    }
    if text.starts_with('/') {
        return Ok(Target::Unix(text.into()));
    }
    let text = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| wrong(text))?;
    let everywhere = matches!(host, "" | "localhost" | "0.0.0.0" | "[::]" | "*");
    let full = if everywhere { format!("127.0.0.1:{port}") } else { format!("{host}:{port}") };
    full.parse().map(Target::Tcp).map_err(|_| wrong(text))
}

fn wrong(text: &str) -> String {
    format!("`{}` is no address; expected HOST:PORT with a numeric host, a port, or unix:PATH", super::run::cut(text))
}

/// Quotes a word for a POSIX shell.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_servers_print_them() {
        let read = |text: &str| parse_address(text, Path::new("/f")).map(|t| t.to_string());
        for text in ["127.0.0.1:50", ":50", "50", "[::]:50", "0.0.0.0:50", "localhost:50", "http://127.0.0.1:50"] {
            assert_eq!(read(text).as_deref(), Ok("127.0.0.1:50"), "{text}");
        }
        assert_eq!(read("[::1]:50").as_deref(), Ok("[::1]:50"));
        assert_eq!(read("unix:///a/s").as_deref(), Ok("unix:/a/s"));
        assert_eq!(read("unix:s").as_deref(), Ok("unix:/f/s"));
        assert_eq!(read("/a/s").as_deref(), Ok("unix:/a/s"));
        for text in ["", "host:1", "1:2:3", "unix:", "127.0.0.1:", "127.0.0.1:99999"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
