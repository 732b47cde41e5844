//! What the engine makes of a driver's answers on a stream, with a driver of three lines.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;
use crate::axis::values::TlsMode;
use crate::peer::{CallOptions, CallRequest, ChannelOptions, Client as _, ConnectRequest, Stream, Target, TlsSpec};

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

/// A stream of a driver that answers one `receive` after another with these `m` and `end`.
async fn stream(received: &'static [(&'static [&'static str], bool)]) -> Box<dyn Stream> {
    let start: Start = Arc::new(move || {
        let (stdin, requests) = tokio::io::duplex(1 << 16);
        let (mut answers, stdout) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut lines = BufReader::new(requests).lines();
            let mut received = received.iter();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: Value = serde_json::from_str(&line).expect("JSON");
                let answer = match request["type"].as_str().expect("a type") {
                    "hello" => json!({"type": "hello", "contract": 1}),
                    "connect" => json!({"type": "connected", "id": request["id"]}),
                    "open" => json!({"type": "opened", "stream": request["stream"]}),
                    "receive" => {
                        let (m, end) = received.next().expect("no more is asked for");
                        let m: Vec<_> = m.iter().map(|m| json!({"m": m})).collect();
                        json!({"type": "received", "stream": request["stream"], "m": m, "end": end})
                    }
                    _ => continue,
                };
                answers.write_all(format!("{answer}\n").as_bytes()).await.expect("the engine reads");
            }
        });
        let started = Started { stdin: Box::new(stdin), stdout: Box::new(stdout), process: Arc::new(Nobody) };
        Box::pin(std::future::ready(Ok(started)))
    });
    let within = Duration::from_secs(5);
    let target = Target::Tcp(([127, 0, 0, 1], 1).into());
    let tls = TlsSpec { mode: TlsMode::None, ..TlsSpec::none() };
    let request = ConnectRequest { target, tls, options: ChannelOptions::default(), within };
    let connection = Driver::new("a driver", start).connect(request).await.expect("connected");
    let call = CallRequest {
        method: "s.S/M".into(),
        send: Vec::new(),
        metadata: Vec::new(),
        deadline: within,
        options: CallOptions::default(),
    };
    connection.open(call).expect("streams").await.expect("opened")
}

#[tokio::test]
async fn an_empty_answer_without_an_end_is_a_receive_that_timed_out() {
    let mut stream = stream(&[(&[], false), (&["YQ=="], false), (&[], true)]).await;
    let error = stream.receive().await.expect_err("no message, and no end");
    assert!(error.timed_out && !error.harness, "{error:?}");
    assert_eq!(stream.receive().await.expect("the message"), Some(Bytes::from_static(b"a")));
    assert_eq!(stream.receive().await.expect("the end"), None);
}
