//! What a request asks of the call itself: a status, a delay, a size.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use super::super::proto::stock::{Ask, Note};
use super::limits;
use super::mistake::{Mistake, Wrong};

/// `google.rpc.Status`, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// An `Ask` whose numbers are within their limits.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    ask: Ask,
    wrong: Wrong,
}

impl Asked {
    pub(super) fn read(ask: Option<Ask>, wrong: Wrong) -> Result<Self, Status> {
        let ask = ask.unwrap_or_default();
        let over = |what: &str, limit: usize| Err(Status::invalid_argument(format!("ask.{what} is over {limit}")));
        if ask.status > 16 {
            return over("status", 16);
        }
        if ask.delay_ms > limits::DELAY_MS {
            return over("delay_ms", limits::DELAY_MS as usize);
        }
        if ask.settle_ms > limits::DELAY_MS && !wrong.is(Mistake::AnySettle) {
            return over("settle_ms", limits::DELAY_MS as usize);
        }
        if ask.padding > limits::PADDING {
            return over("padding", limits::PADDING as usize);
        }
        let text = if wrong.is(Mistake::TextInCharacters) { ask.text.chars().count() } else { ask.text.len() };
        if text > limits::TEXT {
            return over("text", limits::TEXT);
        }
        let details = ask.details.iter().map(String::len);
        let details = if wrong.is(Mistake::DetailsOneByOne) { details.max().unwrap_or(0) } else { details.sum() };
        if details > limits::TEXT {
            return over("details", limits::TEXT);
        }
        Ok(Self { ask, wrong })
    }

    /// What comes before the work: the delay, then the status.
    pub(super) async fn first(&self) -> Result<(), Status> {
        self.delay().await;
        self.status().map_or(Ok(()), Err)
    }

    /// The same where the status may have to wait for messages.
    pub(super) async fn at_once(&self) -> Result<(), Status> {
        if self.ask.after == 0 {
            return self.first().await;
        }
        self.delay().await;
        Ok(())
    }

    async fn delay(&self) {
        if self.ask.delay_ms > 0 && !self.wrong.is(Mistake::DelayIgnored) {
            tokio::time::sleep(Duration::from_millis(self.ask.delay_ms.into())).await;
        }
    }

    /// The status that the call is to end with.
    pub(super) fn status(&self) -> Option<Status> {
        if self.ask.status == 0 {
            return None;
        }
        let code = match self.ask.status {
            16 if self.wrong.is(Mistake::HighCodesAreUnknown) => Code::Unknown,
            code => Code::from(i32::try_from(code).unwrap_or_default()),
        };
        let text = self.text();
        if self.ask.details.is_empty() || self.wrong.is(Mistake::DetailsMissing) {
            return Some(Status::new(code, text));
        }
        let note = |text: &String| Any {
            type_url: "type.googleapis.com/soup.stock.v1.Note".to_owned(),
            value: Note { text: text.clone() }.encode_to_vec(),
        };
        let details = RpcStatus {
            code: if self.wrong.is(Mistake::DetailsWithoutCode) { 0 } else { code.into() },
            message: text.clone(),
            details: self.ask.details.iter().map(note).collect(),
        };
        Some(Status::with_details(code, text, details.encode_to_vec().into()))
    }

    fn text(&self) -> String {
        let text = &self.ask.text;
        if self.wrong.is(Mistake::TextCutAtLine) {
            text.split('\n').next().unwrap_or_default().to_owned()
        } else if self.wrong.is(Mistake::TextAscii) {
            text.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
        } else if self.wrong.is(Mistake::TextEncodedTwice) {
            text.replace('%', "%25")
        } else {
            text.clone()
        }
    }

    /// So many messages before the status.
    pub(super) fn after(&self) -> usize {
        if self.wrong.is(Mistake::AfterIgnored) { 0 } else { self.ask.after as usize }
    }

    pub(super) fn pads(&self) -> bool {
        self.ask.padding > 0
    }

    pub(super) fn padding_length(&self) -> usize {
        self.ask.padding as usize
    }

    /// The letters a to z again and again.
    pub(super) fn padding(&self) -> Bytes {
        let length = self.padding_length().saturating_sub(usize::from(self.wrong.is(Mistake::PaddingShort)));
        (b'a'..=b'z').cycle().take(length).collect()
    }

    pub(super) fn prefix(&self) -> &str {
        &self.ask.prefix
    }

    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.ask.settle_ms.into())
    }
}
