//! Dotted paths into values: `order.items.0.id`, `items[0]`, `labels["a.b"]`.

use serde_json::Value;

/// The value at `path`; `None` when there is none, or the path is malformed. The empty path is the
/// value itself. Numbers index lists; from the end when negative.
#[must_use]
pub fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = value;
    for segment in segments(path)? {
        at = match at {
            Value::Object(fields) => fields.get(&segment)?,
            Value::Array(items) => {
                let index: i64 = segment.parse().ok()?;
                let index = if index < 0 {
                    items.len().checked_sub(usize::try_from(-index).ok()?)?
                } else {
                    usize::try_from(index).ok()?
                };
                items.get(index)?
            }
            _ => return None,
        };
    }
    Some(at)
}

/// Splits a path; `None` when it is malformed (an empty segment, an open bracket or quote).
#[must_use]
pub fn segments(path: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = path;
    if rest.is_empty() {
        return Some(out);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let end = quoted.find("\"]")?;
            out.push(quoted[..end].to_owned());
            rest = &quoted[end + 2..];
        } else if let Some(index) = rest.strip_prefix('[') {
            let end = index.find(']')?;
            out.push(index[..end].parse::<i64>().ok()?.to_string());
            rest = &index[end + 1..];
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            out.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(out),
            None if rest.starts_with('[') => {}
            None => return None,
        }
    }
}
