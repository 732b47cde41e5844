//! YAML values → JSON values, by the core schema of YAML 1.2 (section 10.3). Read by `decode`.

use serde_json::{Map, Number, Value};

use super::yaml::{Kind, Node};

/// A whole tree. Keys are texts; a number that JSON cannot hold stays text.
pub(crate) fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.plain => plain(&scalar.text),
        Kind::Scalar(scalar) => Value::String(scalar.text.clone()),
        Kind::List(items) => Value::Array(items.iter().map(value).collect()),
        Kind::Map(entries) => {
            Value::Object(entries.iter().map(|e| (e.key.clone(), value(&e.value))).collect::<Map<_, _>>())
        }
    }
}

/// What a scalar without quotes means.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !digits.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        // Beyond 64 bits a number would lose digits.
        return unsigned.parse::<i64>().map(Number::from).or_else(|_| unsigned.parse::<u64>().map(Number::from)).ok();
    }
    let shape = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if shape { unsigned.parse::<f64>().ok().and_then(Number::from_f64) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("true", json!(true)),
            ("yes", json!("yes")),
            ("12", json!(12)),
            ("+12", json!(12)),
            ("-7", json!(-7)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("2027-03-01", json!("2027-03-01")),
            (".", json!(".")),
            ("-", json!("-")),
            (".inf", json!(".inf")),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("99999999999999999999999", json!("99999999999999999999999")),
            ("20s", json!("20s")),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
