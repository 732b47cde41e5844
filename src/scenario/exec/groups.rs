//! Texts that refer to groups of a pattern: `$1`, `$name`, `${name}`; `$$` is a dollar sign.

/// A part of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// What a group holds, by its name or number.
    Group(&'a str),
}

/// Takes a text apart.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        found.push(Piece::Text(before));
        if let Some(literal) = after.strip_prefix('$') {
            found.push(Piece::Text("$"));
            rest = literal;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let end = || after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, next) = braced.unwrap_or_else(|| after.split_at(end()));
        found.push(Piece::Group(name));
        rest = next;
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_apart_at_their_groups() {
        use Piece::{Group, Text};
        assert_eq!(
            pieces("a $1 ${name}b $$2 $x_y."),
            [
                Text("a "),
                Group("1"),
                Text(" "),
                Group("name"),
                Text("b "),
                Text("$"),
                Text("2 "),
                Group("x_y"),
                Text(".")
            ]
        );
        assert_eq!(pieces("$"), [Group("")]);
        assert!(pieces("").is_empty());
    }
}
