//! What a step can ask of a call or of a connection beside what the axes ask: the keys that `call`,
//! `open` and `connect` share.

use super::OpReader;
use crate::axis::options::{CallOptions, ChannelOptions, Compression, Keepalive, Limits};
use crate::scenario::decode::Fields;
use crate::scenario::json;
use crate::scenario::made;
use crate::scenario::schema::{Size, Span, shape};
use crate::scenario::yaml::Node;

shape! {
    /// The largest messages of a side; its own limits where left out.
    LimitsMap is "the limits" {
        /// That it sends: 4096, 64KiB, 5MiB.
        send: Option<Size>,
        /// That it takes.
        receive: Option<Size>,
    }
}

shape! {
    /// HTTP/2 PINGs, also without calls.
    KeepaliveMap is "`keepalive`" {
        /// The time between two.
        every: Span,
        /// How long an answer may take.
        timeout: Span,
    }
}

impl OpReader<'_> {
    /// `compression` and `wait_for_ready`.
    pub(super) fn call_options(&mut self, fields: &Fields<'_>) -> CallOptions {
        let compression = fields.get(self.sink, "compression");
        let compression = compression.and_then(|node| self.sink.word(node, "`compression`", Compression::NAMES));
        CallOptions {
            compression: compression.and_then(Compression::from_name),
            wait_for_ready: self.yes(fields, "wait_for_ready"),
        }
    }

    /// `lazy`, `limits` and `keepalive`.
    pub(super) fn channel_options(&mut self, fields: &Fields<'_>) -> ChannelOptions {
        ChannelOptions {
            lazy: self.yes(fields, "lazy"),
            limits: self.limits(fields, "limits"),
            keepalive: fields.get(self.sink, "keepalive").and_then(|node| self.keepalive(node)),
        }
    }

    /// Whether a key that is `true` or `false` is `true`.
    pub(super) fn yes(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        let node = fields.get(self.sink, key);
        node.and_then(|node| self.sink.word(node, &format!("`{key}`"), &["true", "false"])) == Some("true")
    }

    /// Two sizes under a key.
    pub(super) fn limits(&mut self, fields: &Fields<'_>, key: &str) -> Limits {
        let Some(fields) = fields.get(self.sink, key).and_then(|node| self.sink.fields::<LimitsMap>(node)) else {
            return Limits::default();
        };
        let mut size = |key: &str| fields.get(self.sink, key).and_then(|node| self.size(node));
        Limits { send: size("send"), receive: size("receive") }
    }

    fn size(&mut self, node: &Node) -> Option<u32> {
        match made::bytes_of(&json::value(node)) {
            Ok(size) => u32::try_from(size).ok(),
            Err(why) => {
                self.sink.error("bad-size", node.span, why, "not a size", "for example `receive: 64KiB`");
                None
            }
        }
    }

    fn keepalive(&mut self, node: &Node) -> Option<Keepalive> {
        let fields = self.sink.fields::<KeepaliveMap>(node)?;
        let every = fields.require(self.sink, "every", "say how long after one PING the next goes: `every: 10s`");
        let timeout = fields.require(self.sink, "timeout", "say how long an answer may take: `timeout: 5s`");
        let mut time = |node: Option<&Node>, key: &str| {
            let node = node?;
            let time = self.sink.duration(node, key)?;
            if time.as_millis() == 0 {
                let message = format!("{key} of `keepalive` must be at least 1ms");
                self.sink.error("out-of-range", node.span, message, "too short", "");
            }
            Some(time)
        };
        let every = time(every, "`every`");
        let timeout = time(timeout, "`timeout`");
        Some(Keepalive { every: every?, timeout: timeout? })
    }
}
