//! What the end and the output of a program mean, by the patterns of its declaration.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::libc;
use regex::bytes::{Captures, Regex};
use serde_json::Value;

use super::run::{Finished, cut, ended, outputs};
use super::{harness, told};
use crate::dynamic::expect;
use crate::outcome::{Cause, Certainty, GrpcStatus, Phase};
use crate::peer::words::{KEPT, ends};
use crate::peer::{Acted, PeerError};
use crate::scenario::decode::CODES;
use crate::scenario::exec::groups::{Piece, pieces};
use crate::scenario::model::{Form, Meaning, Pattern};

/// A value that a program leaves in a file may have this many bytes.
const FILE_BYTES: u64 = 64 << 20;

/// A run that is to be judged.
pub(super) struct Run<'a> {
    /// `op put of peer x`, for messages.
    pub(super) what: &'a str,
    pub(super) patterns: &'a [Pattern],
    pub(super) finished: &'a Finished,
    /// Where relative files of values are.
    pub(super) folder: &'a Path,
}

impl Run<'_> {
    /// The meaning of the first pattern that holds.
    pub(super) fn judge(&self) -> Result<Acted, PeerError> {
        let Finished { exit, stdout, stderr } = self.finished;
        for pattern in self.patterns {
            if !pattern.exit.is_empty() && !pattern.exit.contains(exit) {
                continue;
            }
            let (out, out_groups) = holds(pattern.stdout.as_ref(), stdout);
            let (err, err_groups) = holds(pattern.stderr.as_ref(), stderr);
            if !out || !err {
                continue;
            }
            return self.mean(&pattern.meaning, &[out_groups, err_groups]);
        }
        let text = format!(
            "no pattern fits what {} gave: it {}; {}; add a pattern that says what this means",
            self.what,
            ended(*exit),
            outputs(stdout, stderr)
        );
        Err(harness("exec.unmatched", text))
    }

    fn mean(&self, meaning: &Meaning, found: &[Option<Captures<'_>>; 2]) -> Result<Acted, PeerError> {
        let words = |text: &str| {
            let text = ends(String::from_utf8_lossy(&expand(text, found)).trim(), KEPT);
            if text.is_empty() { self.words() } else { text }
        };
        match meaning {
            Meaning::Ok { value, message } => {
                let value = value.as_ref().map(|(text, form)| self.value(&expand(text, found), *form)).transpose()?;
                let messages = message.as_ref().map(|text| self.messages(&expand(text, found))).transpose()?;
                let status = GrpcStatus { code: "OK".into(), text: String::new() };
                Ok(Acted { status, value, messages: messages.unwrap_or_default(), reported: None })
            }
            Meaning::Status { code, text } => {
                let name = String::from_utf8_lossy(&expand(code, found)).trim().to_owned();
                let Some(code) = code_of(&name) else {
                    let text = format!("{} names `{}` as its gRPC code, which is none", self.what, cut(&name));
                    return Err(harness("exec.code", text));
                };
                let text = ends(&String::from_utf8_lossy(&expand(text, found)), KEPT);
                let status = GrpcStatus { code: code.to_owned(), text };
                let mut error = told(None, self.words(), None);
                error.reported.status = Some(status.clone());
                Ok(Acted { status, value: None, messages: Vec::new(), reported: Some(error.reported) })
            }
            Meaning::Error { phase, text } => Err(told(Some(*phase), words(text), None)),
            Meaning::Failed { text } => {
                let text = words(text);
                let cause = Cause {
                    code: "test.failed".into(),
                    certainty: Certainty::Reported,
                    text: format!("{} did not pass: {text}", self.what),
                };
                Err(told(Some(Phase::Check), text, Some(cause)))
            }
            Meaning::Refused => {
                let cause = Cause {
                    code: "exec.refused".into(),
                    certainty: Certainty::Reported,
                    text: format!("{} says that it cannot: {}", self.what, self.words()),
                };
                Err(PeerError { refused: true, ..told(Some(Phase::Spawn), self.words(), Some(cause)) })
            }
        }
    }

    /// End and output.
    pub(super) fn words(&self) -> String {
        format!("it {}; {}", ended(self.finished.exit), outputs(&self.finished.stdout, &self.finished.stderr))
    }

    fn value(&self, bytes: &[u8], form: Form) -> Result<Value, PeerError> {
        let text = || String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(match form {
            Form::Text => expect::value(bytes),
            Form::Base64 => {
                let decoded = STANDARD.decode(text());
                let decoded = decoded.map_err(|e| {
                    harness("exec.value", format!("{} gave `{}`, which is no base64: {e}", self.what, cut(&text())))
                })?;
                expect::value(&decoded)
            }
            Form::File => {
                let path = self.folder.join(text());
                let bytes = contents(&path).map_err(|why| {
                    let path = cut(&path.to_string_lossy());
                    harness("exec.value", format!("{} left no value in {path}: {why}", self.what))
                })?;
                expect::value(&bytes)
            }
        })
    }

    fn messages(&self, bytes: &[u8]) -> Result<Vec<Value>, PeerError> {
        serde_json::Deserializer::from_slice(bytes).into_iter().collect::<Result<_, _>>().map_err(|e| {
            let text = format!("{} gave what is no JSON ({e}): {}", self.what, outputs(bytes, &[]));
            harness("exec.message", text)
        })
    }
}

/// What is in a file that a program names. It may name anything: a pipe that nobody writes to must
/// not be waited for, and a device has no end.
fn contents(path: &Path) -> Result<Vec<u8>, String> {
    let said = |e: std::io::Error| e.to_string();
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(said)?;
    if !file.metadata().map_err(said)?.is_file() {
        return Err("it is no file".into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("it has more than the {FILE_BYTES} bytes that are allowed"));
    }
    Ok(bytes)
}

/// Whether a part of a pattern holds, and with which groups.
fn holds<'b>(regex: Option<&Regex>, bytes: &'b [u8]) -> (bool, Option<Captures<'b>>) {
    let captures = regex.and_then(|regex| regex.captures(bytes));
    (regex.is_none() || captures.is_some(), captures)
}

/// Puts groups into a text. Numbers are those of whichever side has groups.
fn expand(text: &str, found: &[Option<Captures<'_>>; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces(text) {
        out.extend_from_slice(match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Group(name) => group(name, found),
        });
    }
    out
}

fn group<'b>(name: &str, found: &'b [Option<Captures<'_>>; 2]) -> &'b [u8] {
    let mut sides = found.iter().flatten();
    let matched = match name.parse::<usize>() {
        Ok(0) => sides.next().and_then(|captures| captures.get(0)),
        Ok(number) => sides.find(|captures| captures.len() > 1).and_then(|captures| captures.get(number)),
        Err(_) => sides.find_map(|captures| captures.name(name)),
    };
    matched.map(|group| group.as_bytes()).unwrap_or_default()
}

/// A code as programs write it: its number, `NOT_FOUND`, `NotFound`, `Canceled`.
fn code_of(text: &str) -> Option<&'static str> {
    if let Ok(number) = text.parse::<usize>() {
        return CODES.get(number).copied();
    }
    let plain = |text: &str| text.replace(['_', ' ', '-'], "").to_ascii_uppercase().replace("CANCELED", "CANCELLED");
    let wanted = plain(text);
    CODES.iter().copied().find(|code| plain(code) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{SourceId, Span};
    use crate::outcome::Exit;

    fn pattern(exit: &[Exit], stdout: Option<&str>, stderr: Option<&str>, meaning: Meaning) -> Pattern {
        let regex = |text: &str| Regex::new(text).unwrap();
        let span = Span { source: SourceId(0), start: 0, end: 0 };
        Pattern { exit: exit.to_vec(), stdout: stdout.map(regex), stderr: stderr.map(regex), meaning, span }
    }

    fn judge(patterns: &[Pattern], exit: Exit, stdout: &[u8], stderr: &[u8]) -> Result<Acted, PeerError> {
        let finished = Finished { exit, stdout: stdout.to_vec(), stderr: stderr.to_vec() };
        Run { what: "op `x` of `tool`", patterns, finished: &finished, folder: Path::new("/") }.judge()
    }

    #[test]
    fn codes_are_known_however_they_are_written() {
        for text in ["5", "NOT_FOUND", "NotFound", "not found"] {
            assert_eq!(code_of(text), Some("NOT_FOUND"), "{text}");
        }
        assert_eq!(code_of("Canceled"), Some("CANCELLED"));
        assert_eq!(code_of("17"), None);
        assert_eq!(code_of("Nope"), None);
    }

    #[test]
    fn the_first_pattern_that_holds_decides_and_the_rest_is_quoted() {
        let status = Meaning::Status { code: "$code".into(), text: "$text".into() };
        let patterns = [
            pattern(
                &[Exit::Code(0)],
                Some("^got (.*)\n"),
                None,
                Meaning::Ok { value: Some(("$1".into(), Form::Text)), message: None },
            ),
            pattern(&[], None, Some("Code: (?<code>\\w+)\n(?<text>.*)"), status),
            pattern(&[Exit::Signal(9)], None, None, Meaning::Refused),
        ];
        assert_eq!(judge(&patterns, Exit::Code(0), b"got a b\n", b"").unwrap().value, Some("a b".into()));
        let acted = judge(&patterns, Exit::Code(77), b"", b"Code: NotFound\nno such\n").unwrap();
        assert_eq!((acted.status.code.as_str(), acted.status.text.as_str()), ("NOT_FOUND", "no such"));
        assert!(judge(&patterns, Exit::Signal(9), b"", b"").unwrap_err().refused);
        let error = judge(&patterns, Exit::Code(3), b"\xe9t\xe9", b"").unwrap_err();
        assert!(error.harness && error.reported.error.contains("status 3"), "{error:?}");
        let error = judge(&patterns, Exit::Code(1), b"", b"Code: Weird\n\n").unwrap_err();
        assert_eq!(error.reported.cause.unwrap().code, "exec.code");
    }

    #[test]
    fn bytes_that_are_no_text_stay_what_they_are() {
        let value = Meaning::Ok { value: Some(("$1".into(), Form::Text)), message: None };
        let patterns = [pattern(&[], Some("(?s-u)^(.*)\n$"), None, value)];
        let acted = judge(&patterns, Exit::Code(0), b"\xe9t\xe9\n", b"").unwrap();
        assert_eq!(acted.value, Some(serde_json::json!({ "$base64": "6XTp" })));
    }

    #[test]
    fn a_value_is_read_from_a_file_and_from_nothing_else() {
        let scratch = crate::process::scratch::Scratch::new().unwrap();
        let at = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("value"), "v").unwrap();
        nix::unistd::mkfifo(at("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(at("long")).unwrap().set_len(FILE_BYTES + 1).unwrap();
        let value = Meaning::Ok { value: Some(("$1".into(), Form::File)), message: None };
        let patterns = [pattern(&[], Some("(.*)"), None, value)];
        let of = |path: &str| judge(&patterns, Exit::Code(0), path.as_bytes(), b"");
        assert_eq!(of(&at("value")).unwrap().value, Some("v".into()));
        for (path, why) in [
            ("/dev/zero".to_owned(), "it is no file"),
            (at("pipe"), "it is no file"),
            (at(""), "it is no file"),
            (at("long"), "more than the 67108864 bytes"),
            (at("none"), "No such file"),
        ] {
            let cause = of(&path).unwrap_err().reported.cause.unwrap();
            assert!(cause.code == "exec.value" && cause.text.contains(why), "{cause:?}");
        }
    }

    #[test]
    fn what_is_taken_from_an_output_has_a_bearable_length() {
        let long = "!".repeat(1 << 20);
        let phase = Phase::Rpc;
        for meaning in [
            Meaning::Status { code: "NOT_FOUND".into(), text: "$1".into() },
            Meaning::Status { code: "$1".into(), text: "$1".into() },
            Meaning::Error { phase, text: "$1".into() },
            Meaning::Failed { text: "$1".into() },
            Meaning::Ok { value: Some(("$1".into(), Form::File)), message: None },
            Meaning::Ok { value: Some(("$1".into(), Form::Base64)), message: None },
        ] {
            let told = match judge(&[pattern(&[], Some("(.*)"), None, meaning)], Exit::Code(0), long.as_bytes(), b"") {
                Ok(acted) => format!("{acted:?}"),
                Err(error) => format!("{error:?}"),
            };
            assert!(told.len() < 4 * KEPT, "{} bytes", told.len());
        }
    }

    #[test]
    fn several_documents_are_several_messages() {
        let patterns = [pattern(&[], Some("(?s)(.*)"), None, Meaning::Ok { value: None, message: Some("$1".into()) })];
        assert_eq!(judge(&patterns, Exit::Code(0), b"{\"a\":1}\n{}", b"").unwrap().messages.len(), 2);
        assert!(judge(&patterns, Exit::Code(0), b"{", b"").unwrap_err().harness);
    }
}
