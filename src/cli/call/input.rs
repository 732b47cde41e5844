//! Messages from standard input: one a line, as JSON or as `NAME=VALUE` words, sent as they come.

use std::io::{BufRead, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::dynamic::Method;

/// The longest line, in bytes.
const LONGEST: u64 = 16 << 20;

/// Reads messages from lines.
struct Input<R> {
    lines: R,
    method: Arc<Method>,
    number: u64,
}

impl<R: BufRead> Input<R> {
    const fn new(lines: R, method: Arc<Method>) -> Self {
        Self { lines, method, number: 0 }
    }

    /// The next message; `None` at the end. Empty lines are passed over.
    ///
    /// # Errors
    /// A line that is no message, with its number and what is wrong.
    fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            self.number += 1;
            let wrong = |why: &str| format!("line {} of the input: {why}", self.number);
            let mut line = Vec::new();
            let read = (&mut self.lines).take(LONGEST + 1).read_until(b'\n', &mut line);
            if read.map_err(|e| wrong(&e.to_string()))? == 0 {
                return Ok(None);
            }
            if line.len() as u64 > LONGEST {
                return Err(wrong("it has more than 16 MiB"));
            }
            let text = std::str::from_utf8(&line).map_err(|_| wrong("it is no UTF-8"))?.trim();
            if !text.is_empty() {
                return self.message(text).map(Some).map_err(|why| wrong(&why));
            }
        }
    }

    fn message(&self, text: &str) -> Result<Bytes, String> {
        let value = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?
        } else {
            let words = text.split_whitespace().map(super::pair).collect::<Result<Vec<_>, _>>()?;
            self.method.from_words(&words).map_err(|e| e.to_string())?
        };
        self.method.encode(&value).map_err(|e| e.to_string())
    }
}

/// Messages as they come in, on a thread that ends with the process: nothing else can be said of
/// standard input. An error is the last of them.
pub(super) fn messages(method: Arc<Method>) -> std::io::Result<mpsc::Receiver<Result<Bytes, String>>> {
    let (messages, out) = mpsc::channel(1);
    let read = move || {
        let mut input = Input::new(std::io::stdin().lock(), method);
        while let Some(message) = input.next().transpose() {
            let wrong = message.is_err();
            if messages.blocking_send(message).is_err() || wrong {
                break;
            }
        }
    };
    std::thread::Builder::new().name("input".into()).spawn(read)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamic::Service;

    fn all(text: &'static str) -> Result<Vec<String>, String> {
        let stock = Service::compile("soup.stock.v1.Stock", &[], &[]).unwrap();
        let method = stock.method("Trade").unwrap();
        let mut input = Input::new(text.as_bytes(), Arc::clone(&method));
        let mut symbols = Vec::new();
        while let Some(message) = input.next()? {
            symbols.push(method.decode_request(&message).unwrap()["symbol"].as_str().unwrap().to_owned());
        }
        Ok(symbols)
    }

    #[test]
    fn lines_are_messages() {
        assert_eq!(all("{\"symbol\":\"a\"}\n\n  symbol=b side=BUY quantity=1\r\nsymbol=c").unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, says) in [
            ("symbol=a\n{\"symbol\":", "line 2 of the input: it is no JSON"),
            ("symbol", "line 1 of the input: `symbol` has no `=`"),
            ("{\"symbl\":\"a\"}", "did you mean `symbol`"),
        ] {
            let error = all(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
