//! docs/stock.md, its scripts and its servers hold each other to their word: every rule has a check,
//! every check a rule, the built-in server passes all of them, and each of its mistakes fails by the
//! check that is named for it. What no script can check is checked here, over the built-in client.

#[path = "support/run.rs"]
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use regex::Regex;
use run::{Place, ROOT, text};
use soupscen::axis::values::Transport;
use soupscen::peer::builtin::proto::stock::watch_event::Kind;
use soupscen::peer::builtin::proto::stock::{
    Ask, BatchItem, BatchSummary, Empty, InventoryStatus, PutRequest, WatchEvent, WatchRequest,
};
use soupscen::peer::builtin::stock::mistake::Mistake;
use soupscen::peer::builtin::{BuiltinClient, BuiltinServer, STOCK_SERVICE};
use soupscen::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Client as _, ConnectRequest, Connection, Limits,
    ServeRequest, Served, Server as _, TlsSpec,
};

const WITHIN: Duration = Duration::from_secs(30);

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn scenario(name: &str) -> String {
    format!("{ROOT}/scenarios/stock/{name}.yaml")
}

#[test]
fn the_built_in_server_passes() {
    let place = Place::new();
    let (ran, results) = place.results(&scenario("reference"), &[]);
    ran.exits(0);
    // Six rows by direct launch and two by plugin; one script needs direct launch.
    assert_eq!(results.counts(), BTreeMap::from([("passed".to_owned(), 8 * scripts().len() - 2)]));
    assert!(place.tmp_is_empty());
}

#[test]
fn no_mistake_passes_unseen() {
    let place = Place::new();
    let (ran, results) = place.results(&scenario("mistakes"), &[]);
    ran.exits(0);
    // The rules name the checks: a mistake that passes is an unexpected pass, one that fails by
    // another check a wrong failure.
    assert_eq!(results.counts(), BTreeMap::from([("known".to_owned(), Mistake::TABLE.len())]));
    let met: BTreeSet<&str> = results.cases().iter().map(|case| text(&case["axes"]["mistake"])).collect();
    assert_eq!(met, Mistake::TABLE.iter().map(|(_, name, _)| *name).collect());

    let yaml = read("scenarios/stock/mistakes.yaml");
    let named = Regex::new(r"match: \{ check: (S-[A-Z]+-[0-9]+)").unwrap();
    assert_eq!(named.captures_iter(&yaml).count(), Mistake::TABLE.len(), "each rule names a check");
    let number = format!("description: {} mistakes", Mistake::TABLE.len());
    assert!(yaml.contains(&number), "`{number}` is not in the scenario");
}

#[test]
fn scenarios_have_as_many_cases_as_they_say() {
    for (name, wanted) in [("quick", 18), ("standard", 150), ("full", 475)] {
        let said = format!("{wanted} cases");
        assert!(
            read(&format!("scenarios/stock/{name}.yaml")).matches(&said).count() >= 2,
            "{name} does not say {said}"
        );
        let place = Place::new();
        let ran = place.run(["plan", "--count", &scenario(name)]);
        assert!(ran.out.contains(&format!(": {said}, {wanted} to run, 0 unsupported")), "{ran}");
    }
}

/// Names of the scripts.
fn scripts() -> Vec<String> {
    let yaml = read("scenarios/stock/scripts.yaml");
    Regex::new(r"(?m)^  ([a-z-]+):$").unwrap().captures_iter(&yaml).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_rule_is_checked_and_every_check_has_its_rule() {
    let page = read("docs/stock.md");
    let (rules, unchecked) = page.split_once("## Rules that no script checks").expect("the page has the heading");
    let row = Regex::new(r"(?m)^\| (S-[A-Z]+-[0-9]+) \|").unwrap();
    let ids = |text: &str| row.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>();
    let defined: BTreeSet<String> = ids(rules).into_iter().collect();
    assert_eq!(defined.len(), ids(rules).len(), "an id is given twice");
    let unchecked: BTreeSet<String> = ids(unchecked).into_iter().collect();

    let yaml = read("scenarios/stock/scripts.yaml") + &read("scenarios/stock/call-scripts.yaml");
    let used = Regex::new(r"(?:id: |^\s+|\{ )(S-[A-Z]+-[0-9]+)(?:[.:,\s]|$)").unwrap();
    let checked: BTreeSet<String> =
        yaml.lines().flat_map(|line| used.captures_iter(line)).map(|found| found[1].to_owned()).collect();

    assert_eq!(checked.difference(&defined).collect::<Vec<_>>(), Vec::<&String>::new(), "checks without a rule");
    assert_eq!(checked.intersection(&unchecked).collect::<Vec<_>>(), Vec::<&String>::new(), "are checked after all");
    let both: BTreeSet<String> = checked.union(&unchecked).cloned().collect();
    assert_eq!(defined, both, "rules that no check has, and that are not said to have none");
}

/// A server in this process.
struct Up {
    served: std::sync::Arc<dyn Served>,
    _folder: tempfile::TempDir,
}

impl Up {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let request = ServeRequest {
            service: STOCK_SERVICE.into(),
            transport: Transport::Unix,
            tls: TlsSpec::none(),
            folder: folder.path().into(),
            storage: folder.path().into(),
            limits: Limits::default(),
            within: WITHIN,
        };
        Self { served: BuiltinServer::new().serve(request).await.unwrap(), _folder: folder }
    }

    async fn connect(&self) -> Box<dyn Connection> {
        let request = ConnectRequest {
            target: self.served.target(),
            tls: TlsSpec::none(),
            options: ChannelOptions::default(),
            within: WITHIN,
        };
        BuiltinClient::default().connect(request).await.unwrap()
    }
}

fn request(method: &str, messages: &[impl prost::Message]) -> CallRequest {
    CallRequest {
        method: format!("{STOCK_SERVICE}/{method}"),
        send: messages.iter().map(|message| message.encode_to_vec().into()).collect(),
        metadata: Vec::new(),
        deadline: WITHIN,
        options: CallOptions::default(),
    }
}

async fn call(connection: &dyn Connection, method: &str, messages: &[impl prost::Message]) -> CallResult {
    connection.call(request(method, messages)).await.unwrap()
}

async fn inventory(connection: &dyn Connection, prefix: &str) -> InventoryStatus {
    let ask = Ask { prefix: prefix.to_owned(), settle_ms: 30_000, ..Ask::default() };
    let result = call(connection, "Inventory", &[Empty { ask: Some(ask), padding: Bytes::new() }]).await;
    InventoryStatus::decode(result.receive[0].clone()).unwrap()
}

async fn event(stream: &mut dyn soupscen::peer::Stream) -> WatchEvent {
    WatchEvent::decode(stream.receive().await.unwrap().expect("an event")).unwrap()
}

/// S-END-5, S-INV-4.
#[tokio::test]
async fn connections_share_a_store_and_end_with_their_calls() {
    let up = Up::start().await;
    let (reader, writer) = (up.connect().await, up.connect().await);
    let watch = WatchRequest { pattern: "a/*".into(), ..WatchRequest::default() };
    let mut stream = reader.open(request("Monitor", &[watch])).unwrap().await.unwrap();
    stream.half_close().await.unwrap();
    assert_eq!(event(stream.as_mut()).await.kind(), Kind::Ready);
    let put = PutRequest { key: "a/b".into(), value: Bytes::from_static(b"v"), ask: None };
    assert_eq!(call(writer.as_ref(), "Put", &[put]).await.status.code, "OK");
    let seen = event(stream.as_mut()).await;
    assert_eq!((seen.kind(), seen.key.as_str(), &seen.value[..]), (Kind::Put, "a/b", &b"v"[..]));

    // Without a word: the connection goes, and with it the call.
    drop(stream);
    drop(reader);
    let after = inventory(writer.as_ref(), "a/").await;
    assert_eq!((after.keys, after.open, after.broken), (1, 0, 1));
}

/// S-BATCH-8.
#[tokio::test]
async fn a_batch_may_have_a_thousand_refused_items() {
    let up = Up::start().await;
    let connection = up.connect().await;
    let item = |key: &str| BatchItem { key: key.to_owned(), ..BatchItem::default() };
    let mut items = vec![item(""); 1000];
    items.push(item("a"));
    let result = call(connection.as_ref(), "Batch", &items).await;
    let summary = BatchSummary::decode(result.receive[0].clone()).unwrap();
    assert_eq!((result.status.code.as_str(), summary.puts, summary.refused.len()), ("OK", 1, 1000));
    items.push(item(""));
    assert_eq!(call(connection.as_ref(), "Batch", &items).await.status.code, "RESOURCE_EXHAUSTED");
}

/// S-END-6 and S-VAL-4: whatever the library answers, nothing changes and the server goes on.
#[tokio::test]
async fn calls_that_the_library_refuses_change_nothing() {
    let up = Up::start().await;
    let connection = up.connect().await;
    for method in ["Get", "Put", "Monitor", "Inventory"] {
        let result = call(connection.as_ref(), method, &[] as &[Empty]).await;
        assert_eq!((result.status.code.as_str(), result.local), ("INTERNAL", Some(false)), "{method}");
    }
    let huge = PutRequest { key: "a".into(), value: Bytes::from(vec![0; 4 << 20]), ask: None };
    let result = call(connection.as_ref(), "Put", &[huge]).await;
    assert_eq!((result.status.code.as_str(), result.local), ("OUT_OF_RANGE", Some(false)));
    let after = inventory(connection.as_ref(), "").await;
    assert_eq!((after.keys, after.revision, after.open), (0, 0, 0));
}

/// The bytes of a KV client are valid: the same field numbers, unknown fields left alone.
#[tokio::test]
async fn messages_of_kv_are_understood() {
    use soupscen::peer::builtin::proto::kv;
    let up = Up::start().await;
    let connection = up.connect().await;
    let put = kv::PutRequest { key: "k".into(), value: Bytes::from_static(b"v") };
    assert_eq!(call(connection.as_ref(), "Put", &[put]).await.status.code, "OK");
    let got = call(connection.as_ref(), "Get", &[kv::GetRequest { key: "k".into() }]).await;
    assert_eq!(kv::GetResponse::decode(got.receive[0].clone()).unwrap().value, b"v"[..]);
}

/// By hand: `serve stock` in one shell, `call` in another.
#[test]
fn it_is_served_and_called_by_hand() {
    use std::io::{BufRead as _, BufReader};
    let place = Place::new();
    std::fs::create_dir(place.at("home")).unwrap();
    let mut command = place.soupscen();
    command.args(["serve", "stock", "--port", "0"]).stdout(std::process::Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = Regex::new(r"^serving soup\.stock\.v1\.Stock at (127\.0\.0\.1:\d+) with tls none$").unwrap();
    let address = address.captures(line.trim()).unwrap_or_else(|| panic!("{line}"))[1].to_owned();
    let call = |method: &str, arguments: &[&str]| {
        let method = format!("soup.stock.v1.Stock/{method}");
        place.run(["call", &method, "--server", &address].into_iter().chain(arguments.iter().copied()))
    };
    let put = call("Put", &["key=a", "value=hello"]);
    let get = call("Get", &["key=a"]);
    let absent = call("Get", &["key=b"]);
    server.kill().unwrap();
    server.wait().unwrap();
    put.exits(0);
    get.exits(0).says("hello");
    absent.exits(1).says("NOT_FOUND: key not found: b");
}
