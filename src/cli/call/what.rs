//! What is called: from the words of the command line to a method and its messages. Named ops come
//! from the table of services that scenarios use.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::dynamic::{DynamicError, Method, Service};
use crate::peer::builtin::STOCK_SERVICE;
use crate::scenario::model::{self, OpDef};
use crate::scenario::template::Renderer;

/// What was typed about the messages.
#[derive(Debug, Default)]
pub(super) struct Typed<'a> {
    pub(super) op: &'a str,
    pub(super) words: &'a [(String, String)],
    pub(super) data: &'a [Value],
    pub(super) hex: &'a [Bytes],
    pub(super) proto: &'a [PathBuf],
    pub(super) import: &'a [PathBuf],
}

/// A call as it goes on the wire.
#[derive(Debug)]
pub(super) struct Call {
    /// The scenario name of the service, where the op was named by it.
    pub(super) service: Option<String>,
    /// The named op and its arguments, for clients that know no messages.
    pub(super) op: (String, Map<String, Value>),
    /// `package.Service/Method`.
    pub(super) path: String,
    /// Without it messages are hex.
    pub(super) codec: Option<Arc<Method>>,
    /// `None`: they are read from standard input.
    pub(super) messages: Option<Vec<Bytes>>,
    /// Dotted path in the response that is shown alone.
    pub(super) yields: Option<String>,
}

impl Call {
    /// Finds the method and encodes what it is given.
    pub(super) fn of(typed: &Typed<'_>, services: &IndexMap<String, model::Service>) -> Result<Self, String> {
        match typed.op.rsplit_once('/') {
            Some(_) if !typed.hex.is_empty() => {
                if let Some((name, _)) = typed.words.first() {
                    return Err(format!("{} takes no `{name}` beside --hex", typed.op));
                }
                Ok(Self::plain(typed.op.to_owned(), None, Some(typed.hex.to_vec())))
            }
            Some((service, method)) => {
                let known = services.values().find(|known| known.service == service && typed.proto.is_empty());
                let loaded = known.map_or_else(|| Service::compile(service, typed.proto, typed.import), Service::load);
                let method = loaded.and_then(|service| service.method(method)).map_err(|e| e.to_string())?;
                let messages = messages(typed, &method, typed.words)?;
                Ok(Self::plain(method.path().to_owned(), Some(method), messages))
            }
            None => Self::named(typed, services),
        }
    }

    fn plain(path: String, codec: Option<Arc<Method>>, messages: Option<Vec<Bytes>>) -> Self {
        Self { service: None, op: ("call".to_owned(), Map::new()), path, codec, messages, yields: None }
    }

    /// `SERVICE.OP`: an op of the service's table, or a method of it in small letters.
    fn named(typed: &Typed<'_>, services: &IndexMap<String, model::Service>) -> Result<Self, String> {
        let unknown = |known: Vec<String>| {
            let op = typed.op;
            let known = known.join(", ");
            Err(format!(
                "`{op}` is not known; known are {known}, and package.Service/Method (of others with --proto or --hex)"
            ))
        };
        let split = typed.op.split_once('.');
        let Some((service, name)) = split.and_then(|(service, name)| Some((services.get(service)?, name))) else {
            return unknown(services.values().flat_map(ops).collect());
        };
        let loaded = Service::load(service).map_err(|e| e.to_string())?;
        let def = service.ops.get(name);
        let method =
            def.map(|def| def.method.clone()).or_else(|| loaded.methods().find(|method| small(method) == name));
        let Some(method) = method else { return unknown(ops(service)) };
        let method = loaded.method(&method).map_err(|e| e.to_string())?;
        if !typed.hex.is_empty() {
            return Err(format!("--hex is for package.Service/Method; write {} --hex …", method.path()));
        }
        let mut words = typed.words.to_vec();
        // The pattern is a prefix with a star, and is called so.
        if method.path() == format!("{STOCK_SERVICE}/Monitor") {
            for (name, _) in words.iter_mut().filter(|(name, _)| name == "prefix") {
                "pattern".clone_into(name);
            }
        }
        let mut arguments = Map::new();
        let messages = match def {
            Some(def) if typed.data.is_empty() => {
                let (own, others): (Vec<_>, Vec<_>) = words.into_iter().partition(|(name, _)| def.args.contains(name));
                arguments = own.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
                Some(vec![rendered(typed.op, def, &arguments, &others, &method)?])
            }
            _ => messages(typed, &method, &words)?,
        };
        Ok(Self {
            service: Some(service.name.clone()),
            op: (if def.is_some() { name.to_owned() } else { "call".to_owned() }, arguments),
            path: method.path().to_owned(),
            codec: Some(method),
            messages,
            yields: def.and_then(|def| def.yields.clone()),
        })
    }

    /// It has many answers, or is to be given many messages: something comes before its end.
    pub(super) fn streams(&self) -> bool {
        self.codec.as_ref().is_some_and(|method| method.client_streaming() || method.server_streaming())
    }

    /// Nobody knows how long it takes: it is fed by hand, or listens.
    pub(super) fn is_open_ended(&self) -> bool {
        self.messages.is_none() || self.codec.as_ref().is_some_and(|method| method.server_streaming())
    }
}

/// Every op of a service, as it is typed.
fn ops(service: &model::Service) -> Vec<String> {
    let methods: Vec<String> =
        Service::load(service).map(|s| s.methods().map(|m| small(&m)).collect()).unwrap_or_default();
    let mut names: Vec<String> = methods.clone();
    names.extend(service.ops.keys().filter(|name| !methods.contains(name)).cloned());
    names.iter().map(|name| format!("{}.{name}", service.name)).collect()
}

/// `Get` as `get`, `SetPrice` as `set-price`.
fn small(method: &str) -> String {
    let mut out = String::new();
    for letter in method.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// Messages by `--data`, or one by words; `None` where a stream is given nothing, and reads.
fn messages(typed: &Typed<'_>, method: &Method, words: &[(String, String)]) -> Result<Option<Vec<Bytes>>, String> {
    let text = |error: DynamicError| error.to_string();
    if !typed.data.is_empty() {
        if !words.is_empty() {
            return Err("give the message by NAME=VALUE or by --data, not by both".to_owned());
        }
        if typed.data.len() > 1 && !method.client_streaming() {
            return Err(format!("{} takes one message, and --data gives {}", method.path(), typed.data.len()));
        }
        return typed
            .data
            .iter()
            .map(|message| method.encode(message))
            .collect::<Result<_, _>>()
            .map(Some)
            .map_err(text);
    }
    if words.is_empty() && method.client_streaming() {
        return Ok(None);
    }
    let message = method.from_words(words).and_then(|value| method.encode(&value)).map_err(text)?;
    Ok(Some(vec![message]))
}

/// The message of an op with a template, and what the words say beside its arguments.
fn rendered(
    op: &str,
    def: &OpDef,
    arguments: &Map<String, Value>,
    others: &[(String, String)],
    method: &Method,
) -> Result<Bytes, String> {
    let takes = || def.args.join(", ");
    if let Some(missing) = def.args.iter().find(|name| !arguments.contains_key(*name)) {
        return Err(format!("{op} needs {missing}=…; it takes {}", takes()));
    }
    for (name, _) in others {
        let field = name.split('.').next().unwrap_or_default();
        if !method.takes(field) {
            return Err(format!(
                "{op} takes no `{name}`; it takes {}, and fields of its message: {}",
                takes(),
                method.fields().join(", ")
            ));
        }
    }
    let beside = method.from_words(others).map_err(|e| e.to_string())?;
    let encoded = |arguments: &Map<String, Value>| -> Result<Bytes, String> {
        let mut message = Renderer::new(arguments).value(&def.send).map_err(|e| e.message)?;
        if let (Value::Object(message), Value::Object(beside)) = (&mut message, &beside) {
            message.extend(beside.clone());
        }
        method.encode(&message).map_err(|e| e.to_string())
    };
    // As text; where a field wants a number, as one.
    encoded(arguments).or_else(|error| {
        let read = |text: &Value| text.as_str().and_then(|text| serde_json::from_str(text).ok());
        let typed = arguments.iter().map(|(name, text)| (name.clone(), read(text).unwrap_or_else(|| text.clone())));
        encoded(&typed.collect()).map_err(|_| error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(op: &str, words: &[&str]) -> Result<Call, String> {
        let files =
            crate::scenario::MemoryFiles::new().with("p.yaml", "soupscen: 1\npeers: { rust: { builtin: {} } }\n");
        let list = crate::scenario::load_peers(std::path::Path::new("p.yaml"), &files).map_err(|_| "no list").unwrap();
        let words: Vec<_> = words.iter().filter_map(|word| word.split_once('=')).collect();
        let words: Vec<_> = words.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Call::of(&Typed { op, words: &words, ..Typed::default() }, &list.services)
    }

    fn message(op: &str, words: &[&str]) -> Value {
        let call = call(op, words).unwrap();
        call.codec.unwrap().decode_request(&call.messages.unwrap()[0]).unwrap()
    }

    #[test]
    fn values_are_read_as_their_fields_are() {
        assert_eq!(message("kv.put", &["key=a", "value=1"]), json!({"key": "a", "value": "1"}));
        assert_eq!(
            message("kv.put", &["key=a", r#"value={"$base64":"/w=="}"#])["value"],
            json!("{\"$base64\":\"/w==\"}")
        );
        let monitor = json!({"pattern": "a/*", "snapshot": true});
        assert_eq!(message("stock.monitor", &["prefix=a/*", "snapshot=true"]), monitor);
        assert_eq!(message("stock.monitor", &["pattern=a/*", "snapshot=true"]), monitor);
        let order = message("stock.trade", &["symbol=7", "side=BUY", "quantity=2"]);
        assert_eq!(order, json!({"symbol": "7", "side": "BUY", "quantity": 2}));
        let get = message("stock.get", &["key=a", "ask.status=5", "ask.details=x", "ask.details=y"]);
        assert_eq!((&get["ask"]["status"], &get["ask"]["details"]), (&json!(5), &json!(["x", "y"])));
    }

    #[test]
    fn a_stream_that_is_given_nothing_reads() {
        assert!(call("stock.batch", &[]).unwrap().messages.is_none());
        assert!(call("stock.inventory", &[]).unwrap().messages.is_some());
        assert!(call("stock.monitor", &[]).unwrap().is_open_ended());
        assert!(!call("stock.get", &["key=a"]).unwrap().is_open_ended());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_there_is() {
        let says = |op: &str, words: &[&str]| call(op, words).unwrap_err();
        assert!(
            says("stock.got", &[])
                .contains("stock.get, stock.put, stock.monitor, stock.batch, stock.trade, stock.inventory")
        );
        assert!(says("shop.get", &[]).contains("kv.get"));
        assert!(says("stock.put", &["key=a"]).contains("needs value=…"));
        assert!(says("stock.get", &["key=a", "kee=a"]).contains("takes no `kee`"));
        assert!(says("stock.monitor", &["patern=a"]).contains("did you mean `pattern`"));
        assert!(says("stock.get", &["key=a", "ask.state=5"]).contains("did you mean `status`"));
        assert!(says("stock.trade", &["symbol=a", "quantity=many"]).contains("TradeOrder.quantity"));
    }
}
