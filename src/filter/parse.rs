//! Recursive descent over the tokens of an expression.
//!
//! ```text
//! or         = and { "or" and }
//! and        = not { "and" not }
//! not        = "not" not | "(" or ")" | "true" | "false" | comparison
//! comparison = name ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" ) literal
//!            | name [ "not" ] "in" "[" literal { "," literal } [ "," ] "]"
//! ```

use crate::axis;
use crate::diag::Diagnostic;

use super::compare::{Comparison, Literal, Operator};
use super::lex::{Kind, Token, tokens};
use super::{Ast, Expr, MAX_DEPTH, MAX_TEXT, Places, Within};

/// Words that join and cannot be names or bare values.
const KEYWORDS: [&str; 4] = ["and", "or", "not", "in"];

pub(super) fn parse(text: &str, places: &Places) -> Result<Expr, Vec<Diagnostic>> {
    let whole = super::lex::within(0, text.len());
    let fail = |at: Within, message: String, label: &str, help: Option<String>| {
        vec![places.diagnostic(text, at, "bad-expression", message, label, help)]
    };
    if text.len() > MAX_TEXT {
        return Err(fail(
            whole,
            format!("an expression has {} bytes, at most {MAX_TEXT} are read", text.len()),
            "too long",
            Some("split it into several rules, or give values a common fact".into()),
        ));
    }
    let tokens = tokens(text).map_err(|error| fail(error.at, error.message, "here", error.help))?;
    let mut parser = Parser { tokens: &tokens, pos: 0, depth: 0 };
    match parser.whole() {
        Ok(ast) => Ok(Expr { text: text.to_owned(), span: places.whole, exact: places.exact, ast }),
        Err(error) => Err(fail(error.at, error.message, "here", error.help)),
    }
}

struct Failure {
    at: Within,
    message: String,
    help: Option<String>,
}

struct Parser<'a> {
    tokens: &'a [Token],
    pos: usize,
    depth: usize,
}

type Step<T> = Result<T, Failure>;

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a Token {
        // The last token is `End`, and nothing moves beyond it.
        &self.tokens[self.pos.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> &'a Token {
        let token = self.peek();
        self.pos = (self.pos + 1).min(self.tokens.len() - 1);
        token
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(&self.peek().kind, Kind::Word(w) if w == word);
        if found {
            self.next();
        }
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(&self.peek().kind, Kind::Sign(s) if *s == sign);
        if found {
            self.next();
        }
        found
    }

    fn fail<T>(&self, message: impl Into<String>, help: impl Into<Option<&'static str>>) -> Step<T> {
        Err(Failure { at: self.peek().at, message: message.into(), help: help.into().map(str::to_owned) })
    }

    fn whole(&mut self) -> Step<Ast> {
        if self.peek().kind == Kind::End {
            return self.fail("an expression is empty", "write a comparison, e.g. `client == go`");
        }
        let ast = self.any()?;
        match &self.peek().kind {
            Kind::End => Ok(ast),
            Kind::Sign(")") => self.fail("`)` closes nothing", None),
            Kind::Sign(sign) if is_comparing(sign) => {
                self.fail("comparisons do not chain", "join two comparisons with `and`")
            }
            other => self.fail(
                format!("{} follows a complete comparison", describe(other)),
                "join comparisons with `and` or `or`",
            ),
        }
    }

    fn any(&mut self) -> Step<Ast> {
        let mut members = vec![self.all()?];
        while self.word("or") {
            members.push(self.all()?);
        }
        Ok(if members.len() == 1 { members.remove(0) } else { Ast::Or(members) })
    }

    fn all(&mut self) -> Step<Ast> {
        let mut members = vec![self.not()?];
        while self.word("and") {
            members.push(self.not()?);
        }
        Ok(if members.len() == 1 { members.remove(0) } else { Ast::And(members) })
    }

    fn not(&mut self) -> Step<Ast> {
        if self.depth == MAX_DEPTH {
            return self.fail(format!("an expression nests deeper than {MAX_DEPTH}"), "write it flatter");
        }
        self.depth += 1;
        let ast = if self.word("not") {
            Ast::Not(Box::new(self.not()?))
        } else if self.sign("(") {
            let inner = self.any()?;
            if !self.sign(")") {
                return self.fail(format!("`)` is missing before {}", describe(&self.peek().kind)), None);
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(ast)
    }

    fn comparison(&mut self) -> Step<Ast> {
        let token = self.peek();
        let name = match &token.kind {
            Kind::Word(word) if !KEYWORDS.contains(&word.as_str()) => word,
            Kind::Quoted(_) => {
                return self.fail(
                    "a comparison starts with a name, not with a quoted text",
                    "put the axis on the left: `client == \"go\"`",
                );
            }
            other => {
                return self.fail(
                    format!("a name is missing before {}", describe(other)),
                    "a comparison is an axis or a fact, a sign and a value, e.g. `server.lang == go`",
                );
            }
        };
        self.next();
        let operator = match &self.peek().kind {
            Kind::Sign(sign) => match *sign {
                "==" => Operator::Equal,
                "!=" => Operator::NotEqual,
                "~" => Operator::Glob,
                "<" => Operator::Less,
                "<=" => Operator::LessEqual,
                ">" => Operator::Greater,
                ">=" => Operator::GreaterEqual,
                _ => return lone(name, token),
            },
            Kind::Word(word) if word == "in" => Operator::In,
            Kind::Word(word) if word == "not" => {
                self.next();
                if !matches!(&self.peek().kind, Kind::Word(word) if word == "in") {
                    return self.fail(
                        "`in` is missing after `not`",
                        "write `name not in [a, b]`, or `not` before the whole comparison",
                    );
                }
                Operator::NotIn
            }
            _ => return lone(name, token),
        };
        self.next();
        let literals = if matches!(operator, Operator::In | Operator::NotIn) {
            self.list(name)?
        } else {
            vec![self.literal(name)?]
        };
        Ok(Ast::Compare(Comparison { name: name.clone(), at: token.at, operator, literals }))
    }

    fn list(&mut self, name: &str) -> Step<Vec<Literal>> {
        if !self.sign("[") {
            return self
                .fail(format!("`[` is missing before {}", describe(&self.peek().kind)), "a list is written `[a, b]`");
        }
        if matches!(self.peek().kind, Kind::Sign("]")) {
            return self.fail("a list is empty, so the comparison never tells anything", "name at least one value");
        }
        let mut literals = vec![self.literal(name)?];
        loop {
            let comma = self.sign(",");
            if self.sign("]") {
                return Ok(literals);
            }
            if !comma {
                return self.fail(format!("`,` or `]` is missing before {}", describe(&self.peek().kind)), None);
            }
            literals.push(self.literal(name)?);
        }
    }

    fn literal(&mut self, name: &str) -> Step<Literal> {
        let token = self.peek();
        let (text, quoted) = match &token.kind {
            Kind::Word(word) if !KEYWORDS.contains(&word.as_str()) => (word.clone(), false),
            Kind::Quoted(text) => (text.clone(), true),
            other => {
                return self.fail(
                    format!("a value is missing before {}", describe(other)),
                    "quote a value that is a keyword or has unusual characters",
                );
            }
        };
        self.next();
        let canonical = match name.split_once('.') {
            None => axis::canonical(name, &text).map_or_else(|| text.clone(), str::to_owned),
            Some((axis_name, fact)) => axis::canonical_fact(axis_name, fact, &text).into_owned(),
        };
        Ok(Literal { text, canonical, quoted, at: token.at })
    }
}

/// A name without a sign after it: a constant, or a mistake.
fn lone(name: &str, token: &Token) -> Step<Ast> {
    match name {
        "true" => Ok(Ast::Constant(true)),
        "false" => Ok(Ast::Constant(false)),
        _ => Err(Failure {
            at: token.at,
            message: format!("`{name}` is not compared with anything"),
            help: Some(format!("write a comparison, e.g. `{name} == …` or `{name} in […]`")),
        }),
    }
}

fn is_comparing(sign: &str) -> bool {
    matches!(sign, "==" | "!=" | "~" | "<" | "<=" | ">" | ">=")
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Word(word) => format!("`{word}`"),
        Kind::Quoted(text) => format!("\"{}\"", super::shortened(text)),
        Kind::Sign(sign) => format!("`{sign}`"),
        Kind::End => "the end".to_owned(),
    }
}
