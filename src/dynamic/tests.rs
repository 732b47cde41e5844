//! Tables: what is written, and what becomes of it.

use serde_json::{Value, json};

use super::*;

const PROTO: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/struct.proto";

enum State { UNKNOWN = 0; CREATED = 1; }
message Item { string sku = 1; uint32 qty = 2; }
message Order {
  string id = 1;
  State state = 2;
  repeated Item items = 3;
  map<string, int64> counts = 4;
  optional string note = 5;
  bytes raw = 6;
  int64 big = 7;
  double price = 8;
  bool paid = 9;
  oneof payer { string person = 10; Item barter = 11; }
  google.protobuf.Timestamp at = 12;
  google.protobuf.Struct extra = 13;
  string display_name = 14;
}
service Orders {
  rpc Create(Order) returns (Order);
  rpc Watch(Order) returns (stream Order);
}
"#;

fn orders() -> (tempfile::TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.proto");
    std::fs::write(&file, PROTO).unwrap();
    let service = Service::compile("shop.v1.Orders", &[file], &[]).unwrap();
    (folder, service)
}

fn echo(method: &Method, value: &Value) -> Result<Value, String> {
    let bytes = method.encode(value).map_err(|e| e.to_string())?;
    method.decode(&bytes).map_err(|e| e.to_string())
}

#[test]
fn the_shipped_service_is_go_plugins() {
    let kv = Service::compile("proto.KV", &[], &[]).unwrap();
    assert_eq!(kv.methods().collect::<Vec<_>>(), ["Get", "Put"]);
    let put = kv.method("Put").unwrap();
    assert_eq!(put.path(), "proto.KV/Put");
    let bytes = put.encode(&json!({"key": "a", "value": {"$base64": "AP8="}})).unwrap();
    assert_eq!(bytes.as_ref(), [0x0a, 1, b'a', 0x12, 2, 0, 0xff]);
    let get = kv.method("/proto.KV/Get").unwrap();
    assert_eq!(get.decode(&[0x0a, 2, b'h', b'i']).unwrap(), json!({"value": "hi"}));
    assert_eq!(get.decode(&[0x0a, 1, 0xff]).unwrap(), json!({"value": {"$base64": "/w=="}}));
    assert_eq!(get.decode(&[]).unwrap(), json!({"value": ""}), "a default is there");
    assert!(put.encode(&Value::Null).unwrap().is_empty());
}

#[test]
fn every_kind_of_field_goes_there_and_back() {
    let (_folder, orders) = orders();
    let create = orders.method("Create").unwrap();
    let full = json!({
        "id": "7", "state": "CREATED", "items": [{"sku": "A1", "qty": 2}], "counts": {"a": 1, "b": -2},
        "note": "", "raw": "text", "big": 9_007_199_254_740_993_i64, "price": 1.5, "paid": true,
        "barter": {"sku": "x", "qty": 0}, "at": "2026-11-21T10:00:00Z", "extra": {"deep": [1.0, null]},
        "display_name": "n"
    });
    assert_eq!(echo(&create, &full).unwrap(), full);
    let lenient = json!({"state": 1, "big": "5", "paid": "true", "price": "2", "displayName": "j", "id": null});
    let read = echo(&create, &lenient).unwrap();
    for (field, expected) in [
        ("state", json!("CREATED")),
        ("big", json!(5)),
        ("paid", json!(true)),
        ("price", json!(2.0)),
        ("display_name", json!("j")),
    ] {
        assert_eq!(read[field], expected, "{field}");
    }
    assert!(
        read.get("note").is_none() && read.get("person").is_none(),
        "unset fields with presence are absent: {read}"
    );
    assert_eq!(echo(&create, &json!({"state": 9})).unwrap()["state"], json!(9), "an unknown number stays one");
    let watch = orders.method("Watch").unwrap();
    assert_eq!((watch.client_streaming(), watch.server_streaming()), (false, true));
}

#[test]
fn what_does_not_fit_is_told_with_place_and_way_out() {
    let (_folder, orders) = orders();
    let create = orders.method("Create").unwrap();
    let table = [
        (json!({"itms": []}), "shop.v1.Order.itms: `shop.v1.Order` has no field `itms`; did you mean `items`?"),
        (
            json!({"items": [{"sku": "a"}, {"sku": 5}]}),
            "shop.v1.Order.items[1].sku: expected text, got the number 5; write it in quotes",
        ),
        (
            json!({"items": {"sku": "a"}}),
            "shop.v1.Order.items: the field is repeated: expected a list, got a map (sku)",
        ),
        (
            json!({"state": "CREATD"}),
            "shop.v1.Order.state: `shop.v1.State` has no value `CREATD`; did you mean `CREATED`?",
        ),
        (json!({"items": [{"qty": -1}]}), "shop.v1.Order.items[0].qty: -1 does not fit a field of type uint32"),
        (json!({"big": 1.5}), "shop.v1.Order.big: expected a whole number, got the number 1.5"),
        (
            json!({"raw": {"$base64": "?"}}),
            "shop.v1.Order.raw: expected bytes, got a map ($base64); write text in quotes",
        ),
        (
            json!({"person": "a", "barter": {}}),
            "shop.v1.Order.barter: `person` is set already, and of `payer` only one can be",
        ),
        (json!({"paid": "maybe"}), "shop.v1.Order.paid: expected true or false, got the text \"maybe\""),
        (json!({"counts": {"a": "x"}}), "shop.v1.Order.counts.a: expected a whole number, got the text \"x\""),
        (json!({"at": "yesterday"}), "shop.v1.Order.at: "),
        (json!([1]), "shop.v1.Order: expected a map of the fields of `shop.v1.Order`, got a list of 1"),
    ];
    for (value, expected) in table {
        let error = create.encode(&value).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{value}\n  expected {expected}\n  got      {error}");
    }
    let problems = create
        .check_names(&json!({"idd": "{{ x }}", "items": [{"sk": 1}], "counts": {"free": 1}, "extra": {"any": 1}}));
    assert_eq!(problems.len(), 2, "{problems:?}");
    let error = create.decode(&[0x0a, 9]).unwrap_err().to_string();
    assert!(error.starts_with("2 bytes are no `shop.v1.Order`: "), "{error}");
}

#[test]
fn services_methods_and_files_that_are_not_there() {
    let (folder, orders) = orders();
    let error = orders.method("Creat").unwrap_err().to_string();
    assert_eq!(
        error,
        "service `shop.v1.Orders` has no method `Creat`; did you mean `Create`? known methods: Create, Watch"
    );
    let error = orders.method("shop.v1.Order/Create").unwrap_err().to_string();
    assert!(error.contains("did you mean `shop.v1.Orders`?"), "{error}");
    // What is beside a service is found by full names, after its own.
    let kv = Service::compile("proto.KV", &[], &[]).unwrap();
    assert!(kv.method("shop.v1.Orders/Create").is_err());
    let kv = kv.beside([&orders]);
    assert_eq!(kv.method("shop.v1.Orders/Create").unwrap().path(), "shop.v1.Orders/Create");
    assert!(kv.method("Create").is_err(), "it is not one of its own");
    // Another version of the same service, with a method more.
    let newer = folder.path().join("newer.proto");
    std::fs::write(&newer, PROTO.replace("rpc Watch", "rpc Cancel(Order) returns (Order);\n  rpc Watch")).unwrap();
    let newer = Service::compile("shop.v1.Orders", &[newer], &[]).unwrap();
    let both = orders.clone().beside([&newer]);
    assert_eq!(both.method("shop.v1.Orders/Cancel").unwrap().path(), "shop.v1.Orders/Cancel");
    assert!(both.method("Cancel").is_err() && orders.method("shop.v1.Orders/Cancel").is_err());
    let error = Service::compile("proto.KW", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("what soupscen ships") && error.contains("did you mean `proto.KV`?"), "{error}");
    let missing = Service::compile("a.B", &[folder.path().join("none.proto")], &[]).unwrap_err().to_string();
    assert!(
        missing.starts_with("the proto files of `a.B` cannot be used: ") && missing.contains("none.proto"),
        "{missing}"
    );
    let bad = folder.path().join("bad.proto");
    std::fs::write(&bad, "syntax = \"proto3\";\nmessage A { Nope n = 1; }\n").unwrap();
    let error = Service::compile("a.B", &[bad], &[]).unwrap_err().to_string();
    assert!(error.contains("bad.proto:2") && error.contains("Nope"), "{error}");
}

#[test]
fn expectations_that_hold() {
    let order = json!({"id": "7", "items": [{"sku": "A1", "qty": 2}, {"sku": "B2", "qty": 1}], "n": 1.0, "raw": "x", "none": null,
                       "doc": "{\"a\": 1, \"server_handshake\": {}}", "bin": {"$base64": "/w=="}, "empty": ""});
    let table = [
        json!({}),
        json!({"id": "7"}),
        json!({"n": 1}),
        json!({"gone": null, "none": null}),
        json!({"items": [{"sku": "A1"}, {"qty": 1}]}),
        json!({"id": {"$any": true}, "raw": {"$any": ["y", "x"]}}),
        json!({"id": {"$regex": "^[0-9]$"}, "n": {"$regex": "1"}}),
        json!({"items": {"$subset": [{"sku": "B2"}]}}),
        json!({"doc": {"$subset": {"a": 1}}}),
        json!({"raw": {"$base64": "eA=="}, "bin": {"$base64": "/w=="}}),
        json!({"items": [{"$exact": {"sku": "A1", "qty": 2}}, {"$any": true}]}),
        json!({"$subset": {"id": "7"}}),
    ];
    for expected in table {
        assert_eq!(expect::compare(&expected, &order), Ok(()), "{expected}");
    }
    assert_eq!(expect::compare(&json!({"$exact": {"a": 1}}), &json!({"a": 1, "b": "", "c": 0, "d": []})), Ok(()));
}

#[test]
fn expectations_that_do_not_hold_say_why() {
    let table = [
        (json!("a"), json!("b"), "expected \"a\"\n  actual \"b\""),
        (json!("5"), json!(5), "expected \"5\"\n  actual 5"),
        (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), "a.b: expected 1\n  actual 2"),
        (json!({"a": 1}), json!({}), "a: expected 1\n  actual nothing"),
        (json!({"a": null}), json!({"a": 1}), "a: expected null\n  actual 1"),
        (json!({"a.b": 1}), json!({"a.b": 2}), "[\"a.b\"]: expected 1\n  actual 2"),
        (json!([1, 2]), json!([1]), "expected 2 elements, actual 1\n[1]: expected 2\n  actual nothing"),
        (json!([1]), json!([1, 2]), "expected 1 elements, actual 2\n[1]: expected nothing\n  actual 2"),
        (json!({"a": {"$any": true}}), json!({}), "a: expected any value, actual nothing"),
        (json!({"a": {"$any": [1, 2]}}), json!({"a": 3}), "a: expected one of 1, 2\n  actual 3"),
        (json!({"a": {"$regex": "^x"}}), json!({"a": "yx"}), "a: expected a match of /^x/\n  actual \"yx\""),
        (json!({"a": {"$regex": "("}}), json!({"a": "("}), "a: the expectation's `$regex` is no pattern: ("),
        (json!({"$subset": [3]}), json!([1, 2]), "expected an element 3\n  actual 2 elements, none of them"),
        (json!({"$subset": {"a": 1}}), json!("no json"), "expected {\"a\":1}\n  actual \"no json\""),
        (json!({"$exact": {"a": {"b": 1}}}), json!({"a": {"b": 1, "c": 2}}), "a.c: expected nothing\n  actual 2"),
        (json!({"$base64": "/w=="}), json!({"$base64": "/g=="}), "expected 1 bytes ff\n  actual 1 bytes fe"),
        (json!({"$base64": "?"}), json!("a"), "the expectation's `$base64` is no padded standard base64"),
    ];
    for (expected, actual, diff) in table {
        assert_eq!(expect::compare(&expected, &actual).unwrap_err().to_string(), diff, "{expected} against {actual}");
    }
}

#[test]
fn diffs_of_large_values_are_short() {
    let a = "x".repeat(5_000_000);
    let mut b = a.clone();
    b.replace_range(17..18, "y");
    let diff = expect::compare(&json!({"v": a}), &json!({"v": format!("{b}z")})).unwrap_err().to_string();
    assert!(
        diff.starts_with("v: expected 5000000 bytes, actual 5000001 bytes; the first difference is at byte 17\n"),
        "{diff}"
    );
    assert!(diff.len() < 400, "{diff}");
    let many: Vec<u32> = (0..1000).collect();
    let other: Vec<u32> = (1..1001).collect();
    let diff = expect::compare(&json!(many), &json!(other)).unwrap_err().to_string();
    assert!(diff.ends_with("… and 992 more") && diff.lines().count() == 17, "{diff}");
    let short = shorten(&json!({"v": "ü".repeat(400), "l": vec![0; 100]}), 101);
    assert_eq!(short["v"], json!(format!("{}… (800 bytes)", "ü".repeat(50))));
    assert_eq!(short["l"].as_array().unwrap().len(), 17);
}

#[test]
fn paths() {
    let value = json!({"order": {"items": [{"id": 1}, {"id": 2}]}, "x-y": 3, "a.b": {"c": 4}});
    let table = [
        ("order.items.1.id", Some(json!(2))),
        ("order.items[0].id", Some(json!(1))),
        ("order.items[-1].id", Some(json!(2))),
        ("x-y", Some(json!(3))),
        ("[\"a.b\"].c", Some(json!(4))),
        ("order.items.2", None),
        ("order.items[-3]", None),
        ("order..items", None),
        ("order.items[", None),
        ("order.items[0]id", None),
        (".order", None),
        ("order.", None),
    ];
    for (at, expected) in table {
        assert_eq!(path::find(&value, at), expected.as_ref(), "{at}");
    }
    assert_eq!(path::find(&value, ""), Some(&value));
}

proptest::proptest! {
    /// Any bytes decode or fail, and what decodes encodes to something that decodes to the same.
    #[test]
    fn foreign_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let (_folder, orders) = orders();
        let create = orders.method("Create").unwrap();
        if let Ok(value) = create.decode(&bytes)
            && let Ok(again) = create.encode(&value)
        {
            proptest::prop_assert_eq!(create.decode(&again).unwrap(), value);
        }
    }

    #[test]
    fn any_path_is_survived(at in ".{0,40}") {
        let _ = path::find(&json!({"a": [1, {"b": 2}]}), &at);
    }
}
