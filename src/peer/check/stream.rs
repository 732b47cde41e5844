//! Rules on streams that the client role sends to and receives from by turns.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use super::open::{BATCH, MONITOR, OpenStream, TRADE, fill, order, say_all, told};
use super::stage::{Call, Say, Seen};
use super::talk::short;
use super::{Bench, Outcome, Rule, SLACK, WITHIN, broken};
use crate::outcome::evidence::Side;
use crate::peer::builtin::proto::stock::{TradeFill, TradeOrder};

const NEEDS: Option<(Side, &str)> = Some((Side::Client, "stream.interleaved"));
/// The deadline of a stream, unless the rule is about it: never the first to pass.
const LIFE: Duration = Duration::from_mins(1);
/// A deadline that is meant to pass, once the stream is at the server.
const SOON: Duration = Duration::from_secs(2);
/// The budget of a `receive` that is meant to pass.
const SHORT: Duration = Duration::from_millis(100);
/// Messages in a row.
const ROW: u32 = 10;
/// Messages of a batch that `receive` may give.
const MAX: usize = 3;
/// What is said to see whether anything holds it back: messages, and bytes of each. More than all
/// windows of HTTP/2 and buffers of a library take together: gRPC's let a window grow to 16 MiB, or
/// to twice what comes in a round trip.
const HEAP: u32 = 192;
const LUMP: usize = 256 << 10;
/// The same for what the driver sends: the server's window is small and does not grow.
const SENDS: u32 = 32;
/// Requests that a driver answers meanwhile: what nothing holds back is through by then.
const MEANWHILE: usize = 100;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "stream.opened",
        about: "`opened` comes before the server has said anything; its metadata and deadline are told to the server",
        needs: NEEDS,
        check: |bench| opened(bench).boxed(),
    },
    Rule {
        id: "stream.turns",
        about: "a message is at the server before the next is sent, and received before the server says more",
        needs: NEEDS,
        check: |bench| turns(bench).boxed(),
    },
    Rule {
        id: "stream.at-once",
        about: "a `receive` that waits holds up no `send`",
        needs: NEEDS,
        check: |bench| at_once(bench).boxed(),
    },
    Rule {
        id: "stream.order",
        about: "messages keep their order both ways, and `receive` gives at most `max`",
        needs: NEEDS,
        check: |bench| in_order(bench).boxed(),
    },
    Rule {
        id: "stream.half-close",
        about: "the server sees the end of the sending side, and what it says then is received",
        needs: NEEDS,
        check: |bench| half_close(bench).boxed(),
    },
    Rule {
        id: "stream.end",
        about: "the end is told by `end: true` behind every message, and `ended` has status, headers and trailers, once",
        needs: NEEDS,
        check: |bench| end(bench).boxed(),
    },
    Rule {
        id: "stream.one-way",
        about: "methods with one message in a direction are opened and received from in the same way",
        needs: NEEDS,
        check: |bench| one_way(bench).boxed(),
    },
    Rule {
        id: "stream.no-message",
        about: "a method with one message that gets none begins with `open` all the same: its deadline, and its end",
        needs: NEEDS,
        check: |bench| no_message(bench).boxed(),
    },
    Rule {
        id: "stream.nothing",
        about: "nothing within `within_ms` is `m: []` with `end: false`; what comes later is for the next `receive`",
        needs: NEEDS,
        check: |bench| nothing(bench).boxed(),
    },
    Rule {
        id: "stream.cancel",
        about: "a cancelled stream is reset, and `ended` with CANCELLED, once; a `receive` that waits gets its answer",
        needs: NEEDS,
        check: |bench| cancel(bench).boxed(),
    },
    Rule {
        id: "stream.deadline",
        about: "a stream whose deadline passes is `ended` with DEADLINE_EXCEEDED, once, and `origin` does not call it remote",
        needs: NEEDS,
        check: |bench| deadline(bench).boxed(),
    },
    Rule {
        id: "stream.lost",
        about: "a stream whose connection is lost is `ended` with UNAVAILABLE, once, and `origin` does not call it remote",
        needs: NEEDS,
        check: |bench| lost(bench).boxed(),
    },
    Rule {
        id: "stream.closed",
        about: "`close` of the connection ends its streams, each with `ended`, once",
        needs: NEEDS,
        check: |bench| closed(bench).boxed(),
    },
    Rule {
        id: "stream.late-send",
        about: "a `send` into a stream that has ended is `sent` or `error`, and the driver lives on",
        needs: NEEDS,
        check: |bench| late_send(bench).boxed(),
    },
    Rule {
        id: "stream.read-ahead",
        about: "messages that are not received hold the server up",
        needs: NEEDS,
        check: |bench| read_ahead(bench).boxed(),
    },
    Rule {
        id: "stream.back-pressure",
        about: "`sent` waits until the transport took the message: a server that does not read holds it up",
        needs: NEEDS,
        check: |bench| back_pressure(bench).boxed(),
    },
    Rule {
        id: "stream.unknown",
        about: "a request to a stream that is not there is `error`",
        needs: NEEDS,
        check: |bench| unknown(bench).boxed(),
    },
];

/// A stream of trades, at the server.
async fn trade(bench: &mut Bench) -> Result<(OpenStream, Call), super::Miss> {
    let mut open = OpenStream::start(bench, TRADE, LIFE, true).await?;
    let call = open.arrived().await?;
    Ok((open, call))
}

/// Waits until exactly these messages are at the server.
async fn at_server(call: &Call, orders: u32) -> Outcome {
    let wanted = usize::try_from(orders).unwrap_or(usize::MAX);
    let came = call.until(WITHIN, |seen| seen.messages.len() >= wanted).await;
    let seen = call.seen();
    if came && seen.messages.iter().zip(0..).all(|(m, n)| m == &order(n)) && seen.messages.len() == wanted {
        return Ok(());
    }
    let number = |m: &bytes::Bytes| match TradeOrder::decode(m.clone()) {
        Ok(order) => order.symbol,
        Err(_) => format!("{} other bytes", m.len()),
    };
    let got = seen.messages.iter().map(number).collect::<Vec<_>>().join(", ");
    broken(format!("expected at the server check-0 to check-{}, in order\ngot      [{got}]", orders - 1))
}

/// Waits for something at the server.
async fn server_sees(call: &Call, what: &str, happened: impl FnMut(&Seen) -> bool) -> Outcome {
    if call.until(WITHIN, happened).await {
        return Ok(());
    }
    let seen = call.seen();
    broken(format!(
        "expected that the server sees {what}\ngot      {} messages, {}, {}",
        seen.messages.len(),
        if seen.half_closed { "the end of the sending side" } else { "no end of the sending side" },
        if seen.given_up { "a reset" } else { "no reset" },
    ))
}

/// The server ends a stream well, and so does the driver.
async fn ends_well(bench: &mut Bench, open: OpenStream, call: &Call) -> Outcome {
    call.say(Say::End("0", ""));
    open.receive_end(bench).await?;
    open.ended(bench, &["OK"]).await?;
    open.over(bench).await
}

async fn opened(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    let sent: Vec<_> = call.headers.get_all("x-check").iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
    if sent != ["b", "a"] {
        return broken(format!("expected at the server `x-check` as b, a\ngot      {sent:?}"));
    }
    if !call.headers.contains_key("grpc-timeout") {
        return broken("expected `grpc-timeout` at the server\ngot      none");
    }
    ends_well(bench, open, &call).await
}

async fn turns(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    for number in 0..3 {
        open.send(bench, &order(number)).await?;
        at_server(&call, number + 1).await?;
        if call.seen().half_closed {
            return broken("expected the sending side to stay open\ngot      its end");
        }
        call.say(Say::Message(fill(number).into()));
        open.receive_fill(bench, number).await?;
    }
    ends_well(bench, open, &call).await
}

async fn at_once(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    open.ask(bench, 1, WITHIN).await?;
    open.send(bench, &order(0)).await?;
    at_server(&call, 1).await?;
    call.say(Say::Message(fill(0).into()));
    let got = open.received(bench, WITHIN).await?;
    if got.messages != [fill(0)] || got.end {
        return broken(format!("expected the server's message 0, and `end: false`\ngot      {}", told(&got)));
    }
    ends_well(bench, open, &call).await
}

async fn in_order(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    // Not one by one: whether a driver keeps them apart is the question.
    for number in 0..ROW {
        open.say(bench, "send", json!({"m": STANDARD.encode(order(number))})).await?;
    }
    for _ in 0..ROW {
        open.hear(bench, "sent", WITHIN).await?;
    }
    at_server(&call, ROW).await?;
    for number in 0..ROW {
        call.say(Say::Message(fill(number).into()));
    }
    let mut next = 0;
    while next < ROW {
        let got = open.receive(bench, MAX).await?;
        let wanted: Vec<_> = (next..).take(got.messages.len()).map(fill).collect();
        if got.messages.is_empty() || got.messages.len() > MAX || got.messages != wanted || got.end {
            return broken(format!(
                "expected 1 to {MAX} messages from {next} on, in order, and `end: false`\ngot      {}",
                told(&got)
            ));
        }
        next += u32::try_from(got.messages.len()).unwrap_or(ROW);
    }
    ends_well(bench, open, &call).await
}

async fn half_close(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    open.send(bench, &order(0)).await?;
    open.half_close(bench).await?;
    server_sees(&call, "the end of the sending side", |seen| seen.half_closed).await?;
    at_server(&call, 1).await?;
    call.say(Say::Message(fill(0).into()));
    open.receive_fill(bench, 0).await?;
    ends_well(bench, open, &call).await
}

async fn end(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    say_all(&call, 3, "0", "");
    for number in 0..3 {
        open.receive_fill(bench, number).await?;
    }
    open.receive_end(bench).await?;
    open.ended(bench, &["OK"]).await?;
    open.over(bench).await?;

    let (open, call) = trade(bench).await?;
    call.say(Say::Message(fill(0).into()));
    // Received before the server fails: some libraries drop what is unread when they see a failure.
    open.receive_fill(bench, 0).await?;
    call.say(Say::End("7", "not for you"));
    open.receive_end(bench).await?;
    let ended = open.ended(bench, &["PERMISSION_DENIED"]).await?;
    if ended["status"]["text"] != "not for you" || ended["origin"] == "local" {
        return broken(format!(
            "expected the text `not for you`, and `origin: remote` or `unknown`\ngot      {}, {}",
            short(&ended["status"]["text"].to_string()),
            ended["origin"]
        ));
    }
    for (list, pair) in [("headers", json!(["x-check", "one"])), ("trailers", json!(["x-check-end", "done"]))] {
        if !ended[list].as_array().is_some_and(|all| all.contains(&pair)) {
            let got = short(&ended[list].to_string());
            return broken(format!("expected in `{list}` {pair}\ngot      {got}"));
        }
    }
    open.over(bench).await
}

async fn one_way(bench: &mut Bench) -> Outcome {
    // What is a KV's or a trade's message is, byte for byte, one of these: a text in field 1.
    let mut open = OpenStream::start(bench, MONITOR, LIFE, true).await?;
    open.send(bench, b"\x0a\x07check-*").await?;
    open.half_close(bench).await?;
    // Not before: a library may keep the one message until it is told that no other comes.
    let call = open.arrived().await?;
    server_sees(&call, "the one message and the end of the sending side", |seen| {
        seen.messages.len() == 1 && seen.half_closed
    })
    .await?;
    let event = b"\x08\x03\x12\x07check-0";
    call.say(Say::Message(event.as_slice().into()));
    let got = open.receive(bench, 1).await?;
    if got.messages != [event] || got.end {
        return broken(format!("expected the server's one event, and `end: false`\ngot      {}", told(&got)));
    }
    ends_well(bench, open, &call).await?;

    let mut open = OpenStream::start(bench, BATCH, LIFE, true).await?;
    let call = open.arrived().await?;
    for (item, count) in [(b"\x0a\x01a", 1), (b"\x0a\x01b", 2)] {
        open.send(bench, item).await?;
        server_sees(&call, "each item before the end", |seen| seen.messages.len() == count && !seen.half_closed)
            .await?;
    }
    open.half_close(bench).await?;
    server_sees(&call, "the end of the sending side", |seen| seen.half_closed).await?;
    let summary = b"\x08\x02\x20\x02";
    call.say(Say::Message(summary.as_slice().into()));
    // The one message of the server may be told only with the status.
    call.say(Say::End("0", ""));
    let got = open.receive(bench, 1).await?;
    if got.messages != [summary] {
        return broken(format!("expected the server's one message\ngot      {}", told(&got)));
    }
    open.receive_end(bench).await?;
    open.ended(bench, &["OK"]).await?;
    open.over(bench).await
}

async fn no_message(bench: &mut Bench) -> Outcome {
    let open = OpenStream::start(bench, MONITOR, SOON, true).await?;
    open.ended_here(bench, "DEADLINE_EXCEEDED").await?;
    open.over(bench).await?;

    let mut open = OpenStream::start(bench, MONITOR, LIFE, true).await?;
    open.half_close(bench).await?;
    let call = open.arrived().await?;
    server_sees(&call, "the end of the sending side, and no message", |seen| {
        seen.messages.is_empty() && seen.half_closed
    })
    .await?;
    call.say(Say::End("3", "no message"));
    open.receive_end(bench).await?;
    open.ended(bench, &["INVALID_ARGUMENT"]).await?;
    open.over(bench).await
}

async fn nothing(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    open.ask(bench, 1, SHORT).await?;
    let got = open.received(bench, SHORT).await?;
    if !got.messages.is_empty() || got.end {
        return broken(format!("expected no message, and `end: false`\ngot      {}", told(&got)));
    }
    // Neither the stream nor the message is lost by it.
    open.send(bench, &order(0)).await?;
    at_server(&call, 1).await?;
    for number in 0..2 {
        call.say(Say::Message(fill(number).into()));
        open.receive_fill(bench, number).await?;
    }
    ends_well(bench, open, &call).await
}

/// A `receive` that waited when the stream ended has no message, and does not wait for longer.
async fn answered(bench: &mut Bench, open: &OpenStream) -> Outcome {
    let got = open.received(bench, WITHIN).await?;
    if got.messages.is_empty() && got.end {
        return Ok(());
    }
    broken(format!("expected of the `receive` that waits no message, and `end: true`\ngot      {}", told(&got)))
}

async fn cancel(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    open.send(bench, &order(0)).await?;
    at_server(&call, 1).await?;
    open.ask(bench, 1, WITHIN).await?;
    open.cancel(bench).await?;
    answered(bench, &open).await?;
    open.ended(bench, &["CANCELLED"]).await?;
    server_sees(&call, "the cancel, as a reset", |seen| seen.given_up).await?;
    // Not looked at is whether the sending side ended as well: Node's HTTP/2 does that before it resets.
    open.over(bench).await
}

async fn deadline(bench: &mut Bench) -> Outcome {
    let mut open = OpenStream::start(bench, TRADE, SOON, true).await?;
    let call = open.arrived().await?;
    call.say(Say::Message(fill(0).into()));
    open.receive_fill(bench, 0).await?;
    open.ask(bench, 1, WITHIN).await?;
    open.ended_here(bench, "DEADLINE_EXCEEDED").await?;
    answered(bench, &open).await?;
    server_sees(&call, "the end of the stream, as a reset", |seen| seen.given_up).await?;
    open.over(bench).await
}

async fn lost(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    call.say(Say::Message(fill(0).into()));
    open.receive_fill(bench, 0).await?;
    open.ask(bench, 1, WITHIN).await?;
    open.stage.cut();
    answered(bench, &open).await?;
    open.ended_here(bench, "UNAVAILABLE").await?;
    open.over(bench).await
}

async fn closed(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    call.say(Say::Message(fill(0).into()));
    open.receive_fill(bench, 0).await?;
    open.close(bench).await?;
    server_sees(&call, "the end of the stream", |seen| seen.given_up).await?;
    open.ended(bench, &["CANCELLED", "UNAVAILABLE"]).await?;
    open.once(bench).await
}

async fn late_send(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    call.say(Say::End("0", ""));
    open.receive_end(bench).await?;
    open.ended(bench, &["OK"]).await?;
    open.say(bench, "send", json!({"m": STANDARD.encode(order(0))})).await?;
    open.hear_either(bench, "sent", WITHIN).await?;
    open.say(bench, "half_close", json!({})).await?;
    open.hear_either(bench, "half_closed", WITHIN).await?;
    open.over(bench).await
}

/// Has the driver do something else.
async fn meanwhile(bench: &mut Bench) -> Outcome {
    for _ in 0..MEANWHILE {
        let id = bench.fresh("u");
        bench.talk().await?.ask(&json!({"type": "no-such-type", "id": id}), WITHIN).await?;
    }
    Ok(())
}

async fn read_ahead(bench: &mut Bench) -> Outcome {
    let (open, call) = trade(bench).await?;
    let lump = |order| TradeFill { order, padding: vec![7; LUMP].into(), ..TradeFill::default() }.encode_to_vec();
    for number in 0..HEAP {
        call.say(Say::Message(lump(number).into()));
    }
    // A driver that reads everything first is to be found by that, not by the time that it takes.
    open.ask(bench, 1, LIFE).await?;
    let got = open.received(bench, LIFE).await?;
    if got.messages != [lump(0)] || got.end {
        return broken(format!("expected the first message alone\ngot      {}", told(&got)));
    }
    meanwhile(bench).await?;
    let taken = call.seen().taken;
    if taken >= HEAP as usize {
        return broken(format!(
            "expected that the server waits for a reader who took 1 of {HEAP} messages of {LUMP} bytes\n\
             got      all of them read ahead"
        ));
    }
    open.cancel(bench).await?;
    open.ended(bench, &["CANCELLED"]).await?;
    open.over(bench).await
}

async fn back_pressure(bench: &mut Bench) -> Outcome {
    let mut open = OpenStream::start(bench, TRADE, LIFE, false).await?;
    let call = open.arrived().await?;
    let lump =
        |number: u32| TradeOrder { symbol: "s".repeat(LUMP), side: 1, quantity: number + 1, ask: None }.encode_to_vec();
    let most = bench.hello["max_in_flight"].as_u64().unwrap_or(u64::from(SENDS));
    // One request is kept for what the driver does meanwhile.
    let sends = SENDS.min(u32::try_from(most.saturating_sub(1)).unwrap_or(SENDS)).max(1);
    for number in 0..sends {
        open.say(bench, "send", json!({"m": STANDARD.encode(lump(number))})).await?;
    }
    meanwhile(bench).await?;
    let mut sent = 0;
    while bench.talk().await?.came(|m: &Value| m["type"] == "sent").is_some() {
        sent += 1;
    }
    if sent >= sends {
        return broken(format!(
            "expected that `sent` waits for a server that reads nothing\n\
             got      it for all {sends} messages of {LUMP} bytes"
        ));
    }
    call.read();
    for _ in sent..sends {
        open.hear(bench, "sent", WITHIN + SLACK).await?;
    }
    let wanted = sends as usize;
    server_sees(&call, "every message once it reads", |seen| seen.messages.len() == wanted).await?;
    if !call.seen().messages.iter().zip(0..).all(|(m, n)| *m == lump(n)) {
        return broken("expected the messages at the server as they were sent, in order\ngot      others");
    }
    ends_well(bench, open, &call).await
}

async fn unknown(bench: &mut Bench) -> Outcome {
    let stream = bench.fresh("s");
    for request in [
        json!({"type": "send", "stream": stream, "seq": 1, "m": ""}),
        json!({"type": "receive", "stream": stream, "seq": 2, "max": 1, "within_ms": WITHIN.as_millis()}),
        json!({"type": "half_close", "stream": stream}),
    ] {
        bench.talk().await?.say(&request).await?;
        let is = |m: &Value| m["stream"] == stream.as_str();
        let answer = bench.talk().await?.hear("an answer of the stream", WITHIN, is).await?;
        if answer["type"] != "error" {
            return broken(format!("expected `error`\ngot      {}", short(&answer.to_string())));
        }
    }
    Ok(())
}
