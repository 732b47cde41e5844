//! A stream that a driver was told to open, with the server's side of it: the requests of the
//! contract that name a stream, and their answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};

use super::stage::{Call, Say, Stage};
use super::talk::short;
use super::{Bench, Miss, Outcome, SLACK, WITHIN, broken, skipped};
use crate::outcome::evidence::Side;
use crate::peer::builtin::proto::stock::{TradeFill, TradeOrder};

/// Messages each way.
pub(super) const TRADE: &str = "soup.stock.v1.Stock/Trade";
/// One message to the server, many from it.
pub(super) const MONITOR: &str = "soup.stock.v1.Stock/Monitor";
/// Many messages to the server, one from it.
pub(super) const BATCH: &str = "soup.stock.v1.Stock/Batch";

/// A message to the server that is told from others by its number.
pub(super) fn order(number: u32) -> Vec<u8> {
    TradeOrder { symbol: format!("check-{number}"), side: 1, quantity: number + 1, ask: None }.encode_to_vec()
}

/// A message of the server that is told from others by its number.
pub(super) fn fill(number: u32) -> Vec<u8> {
    TradeFill { order: number, symbol: format!("check-{number}"), stock: 7, ..TradeFill::default() }.encode_to_vec()
}

/// What a `receive` gave.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) end: bool,
}

/// An open stream, and the server that it goes to.
pub(super) struct OpenStream {
    pub(super) stage: Stage,
    id: String,
    stream: String,
}

impl OpenStream {
    /// Connects and opens a stream of `method` with a deadline; `reads` is whether the server reads by
    /// itself what it is sent.
    pub(super) async fn start(bench: &mut Bench, method: &str, deadline: Duration, reads: bool) -> Result<Self, Miss> {
        if !bench.provides(Side::Client, "service.stock") {
            return skipped("its client does not provide service.stock, which has the methods that stream");
        }
        let folder = if bench.provides(Side::Client, "transport.tcp") { None } else { Some(bench.folder()?) };
        let stage = Stage::start(folder.as_deref(), reads).await;
        let stage = stage.or_else(|e| broken(format!("the check has no server: {e}")))?;
        let (id, stream) = (bench.fresh("c"), bench.fresh("s"));
        let connect = json!({
            "type": "connect", "id": id, "target": stage.address(), "authority": "localhost",
            "server_name": "localhost", "tls": {"mode": "none"}, "wait": "ready", "deadline_ms": WITHIN.as_millis(),
        });
        bench.talk().await?.expect("connected", &connect, WITHIN + SLACK).await?;
        let open = Self { stage, id, stream };
        let request = json!({
            "type": "open", "id": open.id, "stream": open.stream, "method": method,
            "metadata": [["x-check", "b"], ["x-check", "a"]], "deadline_ms": deadline.as_millis(),
        });
        bench.talk().await?.say(&request).await?;
        open.hear(bench, "opened", WITHIN).await?;
        Ok(open)
    }

    /// Waits for the stream at the server.
    pub(super) async fn arrived(&mut self) -> Result<Call, Miss> {
        let call = self.stage.call(WITHIN).await;
        call.ok_or_else(|| Miss::Broken("expected the stream at the server\ngot      nothing".into()))
    }

    /// Asks something of this stream.
    pub(super) async fn say(&self, bench: &mut Bench, kind: &str, mut fields: Value) -> Outcome {
        bench.next += 1;
        fields["type"] = json!(kind);
        fields["stream"] = json!(self.stream);
        fields["seq"] = json!(bench.next);
        bench.talk().await?.say(&fields).await
    }

    /// Waits for an answer of this stream; an `error` is none.
    pub(super) async fn hear(&self, bench: &mut Bench, kind: &str, within: Duration) -> Result<Value, Miss> {
        let answer = self.hear_either(bench, kind, within).await?;
        if answer["type"] == kind {
            return Ok(answer);
        }
        broken(format!("expected `{kind}`\ngot      {}", short(&answer.to_string())))
    }

    /// Waits for an answer of this stream, or an `error`.
    pub(super) async fn hear_either(&self, bench: &mut Bench, kind: &str, within: Duration) -> Result<Value, Miss> {
        let answers = |m: &Value| m["stream"] == self.stream.as_str() && (m["type"] == kind || m["type"] == "error");
        bench.talk().await?.hear(&format!("`{kind}` of the stream"), within, answers).await
    }

    /// Sends a message and waits for its `sent`.
    pub(super) async fn send(&self, bench: &mut Bench, message: &[u8]) -> Outcome {
        self.say(bench, "send", json!({"m": STANDARD.encode(message)})).await?;
        self.hear(bench, "sent", WITHIN).await.map(drop)
    }

    /// Ends the sending side.
    pub(super) async fn half_close(&self, bench: &mut Bench) -> Outcome {
        self.say(bench, "half_close", json!({})).await?;
        self.hear(bench, "half_closed", WITHIN).await.map(drop)
    }

    /// Gives the stream up.
    pub(super) async fn cancel(&self, bench: &mut Bench) -> Outcome {
        bench.talk().await?.say(&json!({"type": "cancel", "stream": self.stream})).await?;
        self.hear(bench, "cancelled", WITHIN).await.map(drop)
    }

    /// Asks for up to `max` messages.
    pub(super) async fn ask(&self, bench: &mut Bench, max: usize, within: Duration) -> Outcome {
        self.say(bench, "receive", json!({"max": max, "within_ms": within.as_millis()})).await
    }

    /// Waits for the answer to an `ask`.
    pub(super) async fn received(&self, bench: &mut Bench, within: Duration) -> Result<Received, Miss> {
        let answer = self.hear(bench, "received", within + SLACK).await?;
        let wrong = || {
            Miss::Broken(format!(
                "expected `m`, a list of messages in base64, and `end`, true or false\ngot      {}",
                short(&answer.to_string())
            ))
        };
        let end = answer["end"].as_bool().ok_or_else(wrong)?;
        let list = answer["m"].as_array().ok_or_else(wrong)?;
        let text = |m: &Value| m["m"].as_str().or_else(|| m.as_str()).map(str::to_owned);
        let messages = list.iter().map(|m| text(m).and_then(|m| STANDARD.decode(m).ok()));
        Ok(Received { messages: messages.collect::<Option<_>>().ok_or_else(wrong)?, end })
    }

    /// Receives up to `max` messages.
    pub(super) async fn receive(&self, bench: &mut Bench, max: usize) -> Result<Received, Miss> {
        self.ask(bench, max, WITHIN).await?;
        self.received(bench, WITHIN).await
    }

    /// Receives exactly this message of the server, and no end.
    pub(super) async fn receive_fill(&self, bench: &mut Bench, number: u32) -> Outcome {
        let got = self.receive(bench, 1).await?;
        if got.messages == [fill(number)] && !got.end {
            return Ok(());
        }
        broken(format!("expected the server's message {number} alone, and `end: false`\ngot      {}", told(&got)))
    }

    /// Receives the end, which has to be next; nothing follows it.
    pub(super) async fn receive_end(&self, bench: &mut Bench) -> Outcome {
        for _ in 0..2 {
            let got = self.receive(bench, 1).await?;
            if !got.messages.is_empty() || !got.end {
                return broken(format!("expected no message, and `end: true`\ngot      {}", told(&got)));
            }
        }
        Ok(())
    }

    /// Waits for `ended`, which has to have one of these codes.
    pub(super) async fn ended(&self, bench: &mut Bench, codes: &[&str]) -> Result<Value, Miss> {
        let is = |m: &Value| m["stream"] == self.stream.as_str() && m["type"] == "ended";
        let ended = bench.talk().await?.hear("`ended` of the stream", WITHIN, is).await?;
        if codes.iter().any(|code| ended["status"]["code"] == *code) {
            return Ok(ended);
        }
        let got = short(&ended["status"].to_string());
        broken(format!("expected `ended` with {}\ngot      {got}", codes.join(" or ")))
    }

    /// Waits for `ended` with a code that the server never sent.
    pub(super) async fn ended_here(&self, bench: &mut Bench, code: &str) -> Outcome {
        let ended = self.ended(bench, &[code]).await?;
        if ended["origin"] == "remote" {
            return broken(format!(
                "expected `origin: local` or `unknown` for {code}, which no server sent\ngot      remote"
            ));
        }
        Ok(())
    }

    /// Closes the connection.
    pub(super) async fn close(&self, bench: &mut Bench) -> Outcome {
        bench.talk().await?.expect("closed", &json!({"type": "close", "id": self.id}), WITHIN).await.map(drop)
    }

    /// After `ended`: cancels what is over and closes the connection; neither makes the stream end
    /// again.
    pub(super) async fn over(self, bench: &mut Bench) -> Outcome {
        self.cancel(bench).await?;
        self.close(bench).await?;
        self.once(bench).await
    }

    /// Looks that `ended` did not come again.
    pub(super) async fn once(self, bench: &mut Bench) -> Outcome {
        // What was told before is here once a later request is answered.
        let id = bench.fresh("u");
        bench.talk().await?.ask(&json!({"type": "no-such-type", "id": id}), WITHIN).await?;
        let is = |m: &Value| m["stream"] == self.stream.as_str() && m["type"] == "ended";
        match bench.talk().await?.came(is) {
            None => Ok(()),
            Some(more) => {
                let status = short(&more["status"].to_string());
                broken(format!("expected `ended` once\ngot      it again, with {status}"))
            }
        }
    }
}

/// A `received` in words: messages are told by their number.
pub(super) fn told(got: &Received) -> String {
    let number = |m: &Vec<u8>| match TradeFill::decode(m.as_slice()) {
        Ok(fill) if *m == self::fill(fill.order) => format!("message {}", fill.order),
        _ => format!("{} other bytes", m.len()),
    };
    let messages = got.messages.iter().map(number).collect::<Vec<_>>().join(", ");
    format!("[{messages}] and `end: {}`", got.end)
}

/// The server's answer to a whole stream: so many messages, and a status.
pub(super) fn say_all(call: &Call, messages: u32, code: &'static str, text: &'static str) {
    for number in 0..messages {
        call.say(Say::Message(fill(number).into()));
    }
    call.say(Say::End(code, text));
}
