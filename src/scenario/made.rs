//! `{$bytes: {size: 5MiB, seed: 7}}`: bytes that are made, not written down. The same size and seed
//! give the same bytes on every machine; they hold every byte value, so that they are no text.

use serde_json::{Map, Value};

/// The most that can be made at once, in MiB.
const MAX_MIB: usize = 64;

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    size: usize,
    seed: u64,
}

impl Made {
    /// Reads the value of `$bytes`: a size, or a map with a size and a seed.
    ///
    /// # Errors
    /// A sentence with the way out.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Self::fields(fields),
            size => Ok(Self { size: bytes_of(size)?, seed: 0 }),
        }
    }

    fn fields(fields: &Map<String, Value>) -> Result<Self, String> {
        if let Some(other) = fields.keys().find(|key| !matches!(key.as_str(), "size" | "seed")) {
            return Err(format!("`$bytes` has no `{other}`, only `size` and `seed`"));
        }
        let size = fields.get("size").ok_or("`$bytes` needs a `size`: `{ size: 1MiB, seed: 1 }`")?;
        let seed = match fields.get("seed") {
            None => 0,
            Some(seed) => seed.as_u64().ok_or("`seed` of `$bytes` must be a whole number from 0")?,
        };
        Ok(Self { size: bytes_of(size)?, seed })
    }

    /// The bytes: those of the `SplitMix64` sequence of the seed.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size + 8);
        let mut state = self.seed;
        while bytes.len() < self.size {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        bytes.truncate(self.size);
        bytes
    }
}

/// A number of bytes: `4096`, `64KiB`, `5MiB`.
pub(crate) fn bytes_of(value: &Value) -> Result<usize, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err("a size is a number of bytes, or one with a unit: 4096, 64KiB, 5MiB".into()),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => 0,
    };
    let size = digits.trim().parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).filter(|_| factor > 0);
    let size = size.ok_or_else(|| format!("`{text}` is no size; write 4096, 64KiB or 5MiB"))?;
    if size > MAX_MIB << 20 {
        return Err(format!("`{text}` is more than the {MAX_MIB} MiB that can be made at once"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_and_seeds_make_bytes() {
        let made = |value: Value| Made::parse(&value).unwrap().bytes();
        assert_eq!(made(json!(3)).len(), 3);
        assert_eq!(made(json!("2KiB")).len(), 2048);
        assert_eq!(made(json!({ "size": "1MiB", "seed": 4 })).len(), 1 << 20);
        assert_eq!(made(json!({ "size": 9, "seed": 4 })), made(json!({ "size": 9, "seed": 4 })));
        assert_ne!(made(json!({ "size": 9, "seed": 4 })), made(json!({ "size": 9, "seed": 5 })));
        let many = made(json!("64KiB"));
        assert!((0..=255_u8).all(|byte| many.contains(&byte)));
        assert!(std::str::from_utf8(&many).is_err());
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let why = |value: Value| Made::parse(&value).unwrap_err();
        assert!(why(json!("65MiB")).contains("64 MiB"));
        assert!(why(json!("99999999999999999999MiB")).contains("is no size"));
        assert!(why(json!("5 apples")).contains("is no size"));
        assert!(why(json!({ "seed": 1 })).contains("needs a `size`"));
        assert!(why(json!({ "size": 1, "sede": 1 })).contains("no `sede`"));
        assert!(why(json!({ "size": 1, "seed": -1 })).contains("`seed`"));
        assert!(why(json!([1])).contains("a size is"));
    }
}
