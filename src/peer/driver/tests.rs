//! What the engine makes of a driver's answers, with drivers of a few lines.

use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;
use crate::axis::values::TlsMode;
use crate::peer::{
    CallOptions, CallRequest, ChannelOptions, Client as _, ConnectRequest, Connection, Stream, Target, TlsSpec,
};

struct Nobody;

impl DriverProcess for Nobody {
    fn account(&self) -> String {
        String::new()
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    fn stderr(&self) -> String {
        String::new()
    }
    fn kill(&self) {}
}

/// What a driver was told, oldest first.
type Told = Arc<Mutex<Vec<Value>>>;

const WITHIN: Duration = Duration::from_secs(5);

/// A driver whose answers are these, and the usual ones where there is none; null is no answer.
fn driver(answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> (Driver, Told) {
    let (answer, told) = (Arc::new(answer), Told::default());
    let heard = Arc::clone(&told);
    let start: Start = Arc::new(move || {
        let (stdin, requests) = tokio::io::duplex(1 << 16);
        let (mut answers, stdout) = tokio::io::duplex(1 << 16);
        let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
        tokio::spawn(async move {
            let mut lines = BufReader::new(requests).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: Value = serde_json::from_str(&line).expect("JSON");
                heard.lock().unwrap().push(request.clone());
                let usual = || match request["type"].as_str().expect("a type") {
                    "hello" => json!({"type": "hello", "contract": 1}),
                    "connect" => json!({"type": "connected", "id": request["id"]}),
                    "open" => json!({"type": "opened", "stream": request["stream"]}),
                    _ => Value::Null,
                };
                let answer = answer(&request).unwrap_or_else(usual);
                if !answer.is_null() {
                    answers.write_all(format!("{answer}\n").as_bytes()).await.expect("the engine reads");
                }
            }
        });
        let started = Started { stdin: Box::new(stdin), stdout: Box::new(stdout), process: Arc::new(Nobody) };
        Box::pin(std::future::ready(Ok(started)))
    });
    (Driver::new("a driver", start), told)
}

async fn connected(driver: &Driver) -> Box<dyn Connection> {
    let target = Target::Tcp(([127, 0, 0, 1], 1).into());
    let tls = TlsSpec { mode: TlsMode::None, ..TlsSpec::none() };
    let request = ConnectRequest { target, tls, options: ChannelOptions::default(), within: WITHIN };
    driver.connect(request).await.expect("connected")
}

fn request(send: &[&'static [u8]], deadline: Duration) -> CallRequest {
    CallRequest {
        method: "s.S/M".into(),
        send: send.iter().map(|message| Bytes::from_static(message)).collect(),
        metadata: Vec::new(),
        deadline,
        options: CallOptions::default(),
    }
}

/// A stream of a driver that answers one `receive` after another with these `m` and `end`.
async fn stream(received: &'static [(&'static [&'static str], bool)]) -> Box<dyn Stream> {
    let next = AtomicUsize::new(0);
    let (driver, _) = driver(move |request| {
        let (m, end) = received.get((request["type"] == "receive").then(|| next.fetch_add(1, Ordering::Relaxed))?)?;
        let m: Vec<_> = m.iter().map(|m| json!({"m": m})).collect();
        Some(json!({"type": "received", "stream": request["stream"], "m": m, "end": end}))
    });
    connected(&driver).await.open(request(&[], WITHIN)).expect("streams").await.expect("opened")
}

/// The code of a failure of the harness.
#[track_caller]
fn harness_code<T>(failed: Result<T, PeerError>) -> String {
    let Err(error) = failed else { panic!("it went well") };
    assert!(error.harness && !error.refused, "{error:?}");
    error.reported.cause.expect("a cause").code
}

/// Waits until the driver was told this.
async fn hears(told: &Told, kind: &str) -> Value {
    for _ in 0..1000 {
        if let Some(request) = told.lock().unwrap().iter().find(|request| request["type"] == kind) {
            return request.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no `{kind}` in {:?}", told.lock().unwrap());
}

#[tokio::test]
async fn an_empty_answer_without_an_end_is_a_receive_that_timed_out() {
    let mut stream = stream(&[(&[], false), (&["YQ=="], false), (&[], true)]).await;
    let error = stream.receive().await.expect_err("no message, and no end");
    assert!(error.timed_out && !error.harness, "{error:?}");
    assert_eq!(stream.receive().await.expect("the message"), Some(Bytes::from_static(b"a")));
    assert_eq!(stream.receive().await.expect("the end"), None);
}

#[tokio::test]
async fn more_messages_than_were_asked_for_are_a_breach() {
    let mut stream = stream(&[(&["YQ==", "YQ=="], false), (&["YQ=="], true), (&["?"], false)]).await;
    for _ in 0..3 {
        assert_eq!(harness_code(stream.receive().await), "driver.contract");
    }
}

#[tokio::test]
async fn an_error_to_a_message_says_that_the_stream_is_over() {
    for (kind, code, harness) in [("contract", "rpc.stream.over", false), ("internal", "driver.refused", true)] {
        let (driver, _) = driver(move |request| {
            let out = request["type"] == "send" || request["type"] == "half_close";
            out.then(|| json!({"type": "error", "stream": request["stream"], "kind": kind, "error": "too late"}))
        });
        let opened = connected(&driver).await.open(request(&[], WITHIN)).expect("streams").await;
        let mut stream = opened.expect("opened");
        for result in [stream.send(Bytes::from_static(b"a")).await, stream.half_close().await] {
            let error = result.expect_err("an error");
            assert_eq!(error.harness, harness, "{error:?}");
            let cause = error.reported.cause.expect("a cause");
            assert!(cause.code == code && cause.text.contains("too late"), "{cause:?}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_base64_are_a_breach_and_padding_is_optional() {
    let good = json!([["k-bin", {"b64": "YQ"}], ["k-bin", {"b64": "YQ=="}]]);
    let bad = json!([["k-bin", {"b64": "?"}]]);
    for (headers, trailers, details, held) in
        [(&good, &good, "YQ", true), (&bad, &good, "YQ", false), (&good, &bad, "YQ", false), (&good, &good, "?", false)]
    {
        let (headers, trailers) = (headers.clone(), trailers.clone());
        let (driver, _) = driver(move |request| {
            let status = json!({"code": "NOT_FOUND", "details_b64": details});
            (request["type"] == "call").then(|| {
                json!({"type": "result", "id": request["id"], "seq": request["seq"], "status": status,
                       "headers": headers, "trailers": trailers})
            })
        });
        let result = connected(&driver).await.call(request(&[], WITHIN)).await;
        if held {
            let result = result.expect("a result");
            assert!(result.headers.iter().chain(&result.trailers).all(|(_, value)| value == "a"), "{result:?}");
        } else {
            assert_eq!(harness_code(result), "driver.contract");
        }
    }
}

#[tokio::test]
async fn a_driver_is_asked_no_more_at_once_than_it_takes() {
    let hello = json!({"type": "hello", "contract": 1, "max_in_flight": 1});
    let (driver, told) = driver(move |request| (request["type"] == "hello").then(|| hello.clone()));
    let connection = connected(&driver).await;
    let first = connection.call(request(&[], WITHIN));
    let second = async {
        hears(&told, "call").await;
        connection.call(request(&[], Duration::from_millis(50))).await
    };
    let second = tokio::select! { _ = first => panic!("nothing was answered"), second = second => second };
    assert_eq!(harness_code(second), "driver.max-in-flight");
    assert_eq!(told.lock().unwrap().iter().filter(|request| request["type"] == "call").count(), 1);
}

#[tokio::test]
async fn a_line_is_no_longer_than_the_driver_takes() {
    let hello = json!({"type": "hello", "contract": 1, "max_line": 1000});
    let (driver, _) = driver(move |request| match request["type"].as_str()? {
        "hello" => Some(hello.clone()),
        "call" => Some(json!({"type": "result", "id": request["id"], "seq": request["seq"], "status": {"code": "OK"}})),
        _ => None,
    });
    let connection = connected(&driver).await;
    assert_eq!(harness_code(connection.call(request(&[&[7; 1000]], WITHIN)).await), "driver.max-line");
    assert!(connection.call(request(&[b"a"], WITHIN)).await.is_ok(), "the driver is none the worse");
}

#[tokio::test]
async fn a_stream_that_nobody_waits_for_any_more_is_cancelled() {
    let patience = Duration::from_millis(200);
    let (silent, told) = driver(|request| (request["type"] == "open").then_some(Value::Null));
    let connection = connected(&silent).await;
    let opening = connection.open(request(&[], WITHIN)).expect("streams");
    assert!(tokio::time::timeout(patience, opening).await.is_err());
    assert_eq!(hears(&told, "cancel").await["stream"], hears(&told, "open").await["stream"]);

    let (endless, told) = driver(|_| None);
    let mut stream = connected(&endless).await.open(request(&[], WITHIN)).expect("streams").await.expect("opened");
    assert!(tokio::time::timeout(patience, stream.end()).await.is_err());
    drop(stream);
    assert_eq!(hears(&told, "cancel").await["stream"], hears(&told, "open").await["stream"]);
}
