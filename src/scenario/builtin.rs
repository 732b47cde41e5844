//! What soupscen itself brings to every scenario: the services `kv` and `stock`, and the capabilities of its own
//! client and server.

use indexmap::IndexMap;
use serde_json::json;

use super::model::{Capability, OpDef, Service};
use crate::axis::{self, Needs};
use crate::diag::Span;

/// The service that is meant where none is named.
pub(super) const KV: &str = "kv";
/// Its full protobuf name.
const KV_SERVICE: &str = "proto.KV";
/// The services that are always there: full protobuf name and methods.
pub(super) const METHODS: &[(&str, &[&str])] = &[
    (KV_SERVICE, &["Get", "Put"]),
    ("soup.stock.v1.Stock", &["Get", "Put", "Monitor", "Batch", "Trade", "Inventory"]),
];

/// Capabilities that no axis asks for.
pub(super) const OTHERS: &[&str] = &[
    "stream.interleaved",
    "stdio",
    "compression.gzip",
    "limits",
    "limits.send",
    "limits.receive",
    "keepalive",
    "wait-for-ready",
];

/// What soupscen's own client and server are made of.
pub(super) const COMPONENTS: &[&str] = &["h2", "hyper", "tonic"];

/// What soupscen's own server provides.
const SERVER: &[&str] = &[
    "launch.*",
    "transport.*",
    "tls.*",
    "key.*",
    "client_key.*",
    "tls_version.*",
    "group.*",
    "service.kv",
    "service.stock",
    "stdio",
    "compression.gzip",
    "limits",
];
/// What soupscen's own client provides: it calls any service by its descriptors.
const CLIENT: &[&str] = &[
    "launch.*",
    "transport.*",
    "tls.*",
    "key.*",
    "client_key.*",
    "tls_version.*",
    "group.*",
    "service.*",
    "stream.interleaved",
    "stdio",
    "compression.gzip",
    "limits",
    "keepalive",
];

/// Capabilities of the own client.
pub(super) fn client(span: Span) -> Vec<Capability> {
    capabilities(CLIENT, span)
}

/// Capabilities of the own server.
pub(super) fn server(span: Span) -> Vec<Capability> {
    capabilities(SERVER, span)
}

fn capabilities(names: &[&str], span: Span) -> Vec<Capability> {
    names.iter().map(|name| Capability { name: (*name).to_owned(), when: None, span }).collect()
}

/// Every capability that a peer could have.
pub(super) fn known_capabilities<'a>(services: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut known: Vec<String> = OTHERS.iter().map(|name| (*name).to_owned()).collect();
    for def in axis::table().iter().filter(|def| def.needs != Needs::Nothing) {
        known.extend(def.values.iter().filter(|v| !v.asks_nothing).map(|v| format!("{}.{}", def.name, v.name)));
    }
    known.extend(services.into_iter().map(|name| format!("service.{name}")));
    known
}

/// The services that are always there: `kv`, which is proto.KV of go-plugin's example, and `stock`,
/// which docs/stock.md defines.
pub(super) fn services(span: Span) -> Vec<Service> {
    let op = |method: &str, args: &[&str], yields: Option<&str>| OpDef {
        method: method.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        send: args.iter().map(|arg| ((*arg).to_owned(), json!(format!("{{{{ {arg} }}}}")))).collect(),
        yields: yields.map(str::to_owned),
        span,
    };
    let put_get = || {
        IndexMap::from([
            ("put".to_owned(), op("Put", &["key", "value"], None)),
            ("get".to_owned(), op("Get", &["key"], Some("value"))),
        ])
    };
    let service = |(name, full): (&str, &str)| Service {
        name: name.to_owned(),
        span,
        service: full.to_owned(),
        files: Vec::new(),
        import: Vec::new(),
        ops: put_get(),
    };
    [KV, "stock"].into_iter().zip(METHODS.iter().map(|(full, _)| *full)).map(service).collect()
}
