//! Texts with `{{ … }}`: checked when a scenario is read, rendered when a case runs. Strict about
//! names, without files, without the environment, and with an end to its patience.
//!
//! A text that is exactly one `{{ expression }}` is replaced by the expression's value, whatever its
//! type; any other becomes text. Read by the rest of this module and by `exec`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value as Cell};
use serde_json::{Map, Value};
use thiserror::Error;

/// Steps of the template machine for one text.
const FUEL: u64 = 100_000;
/// A rendered text may have this many bytes.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// What names the texts of a script may use, beside what earlier steps captured:
/// `case.{key,id,slug}`, `client.FACT`, `server.FACT`, `service.name`, `script.name`, `axes.NAME`,
/// `vars.NAME`, `work` (a folder of the case), `run.work` (one of the run); inside of `repeat` `round`,
/// inside of `parallel` `branch`, both from 0.
pub const STEP_NAMES: &[&str] = &["case", "client", "server", "service", "script", "axes", "vars", "work", "run"];
/// What names the commands and environments of peers may use: `output` (the folder built into),
/// `folder` (the peer's own), `storage` (an empty folder of the instance), `axes.NAME` (empty where
/// nothing is asked), `tls.FIELD` (the server's part, empty where nothing is asked), `vars.NAME`.
pub const COMMAND_NAMES: &[&str] = &["output", "folder", "storage", "axes", "tls", "vars"];
/// The fields of `tls`: the mode's name, PEM files, `require` or nothing, and what the axes ask for.
pub const TLS_FIELDS: &[&str] = &["mode", "cert", "key", "ca", "client_auth", "version", "group"];
/// What names the commands of `exec` clients may use, beside what an op hands over: as the commands
/// of other peers (`tls` is the client's part, with `server_name`), the case and its script, the
/// server that is to be dialled or started, and the cookie of plugins.
pub const CLIENT_NAMES: &[&str] =
    &["output", "folder", "storage", "axes", "tls", "vars", "case", "script", "server", "cookie"];
/// The fields of `server` for them: `HOST:PORT` or `unix:PATH` and its parts, or the program that is
/// to be started; what does not apply is empty.
pub const SERVER_FIELDS: &[&str] = &["address", "host", "port", "path", "program"];
/// The fields of `cookie`: name and value of the variable by which a plugin knows its host.
pub const COOKIE_FIELDS: &[&str] = &["key", "value"];
/// What names builds and version probes may use.
pub const BUILD_NAMES: &[&str] = &["output", "folder", "vars"];
/// The fields of `case`.
pub const CASE_FIELDS: &[&str] = &["key", "id", "slug"];

/// Why a text cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct TemplateError {
    /// The cause, a sentence.
    pub message: String,
    /// The bytes of the text that it is about, when known.
    pub range: Option<Range<usize>>,
}

/// Renders texts and trees against one set of names.
#[derive(Debug, Clone)]
pub struct Renderer {
    names: BTreeMap<String, Cell>,
    /// The same as one value, which is cheap to hand to the machine again and again.
    context: Cell,
}

impl Renderer {
    /// Names and their values, e.g. `case` → `{"slug": "…"}`.
    #[must_use]
    pub fn new(names: &Map<String, Value>) -> Self {
        let names: BTreeMap<_, _> =
            names.iter().map(|(name, value)| (name.clone(), Cell::from(Serde(value)))).collect();
        Self { context: Cell::from(names.clone()), names }
    }

    /// Gives a name a value: what a step captured.
    pub fn set(&mut self, name: impl Into<String>, value: &Value) {
        self.names.insert(name.into(), Cell::from(Serde(value)));
        self.context = Cell::from(self.names.clone());
    }

    /// Renders a text to text.
    ///
    /// # Errors
    /// A syntax error, an unknown name, or a text that costs or gives too much.
    pub fn text(&self, template: &str) -> Result<String, TemplateError> {
        if !is_template(template) {
            return Ok(template.to_owned());
        }
        render(environment(), template, self.context.clone()).map_err(|e| explain(&e))
    }

    /// Renders every text of a tree; keys stay as they are.
    ///
    /// # Errors
    /// As [`Self::text`], for the first text that cannot be rendered.
    pub fn value(&self, template: &Value) -> Result<Value, TemplateError> {
        match template {
            Value::String(text) => self.scalar(text),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| Ok((key.clone(), self.value(value)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
            other => Ok(other.clone()),
        }
    }

    fn scalar(&self, text: &str) -> Result<Value, TemplateError> {
        let Some(expression) = lone_expression(text) else { return self.text(text).map(Value::String) };
        let result = environment()
            .compile_expression(expression)
            .and_then(|compiled| compiled.eval(self.context.clone()))
            .map_err(|e| explain(&e))?;
        if result.is_undefined() {
            return Err(TemplateError { message: format!("`{}` has no value", expression.trim()), range: None });
        }
        serde_json::to_value(&result)
            .map_err(|e| TemplateError { message: format!("`{}` is not data: {e}", expression.trim()), range: None })
    }
}

/// Whether a text has anything to render.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Checks the syntax and gives the names that a text needs, dotted as far as they are written
/// (`case.slug`); empty for a text without templates.
///
/// # Errors
/// A syntax error, an unknown filter or test.
pub fn names(text: &str) -> Result<BTreeSet<String>, TemplateError> {
    if !is_template(text) {
        return Ok(BTreeSet::new());
    }
    let template = environment().template_from_str(text).map_err(|e| explain(&e))?;
    unknown_words(text)?;
    Ok(template.undeclared_variables(true).into_iter().filter(|name| !is_function(name)).collect())
}

/// Filters and tests are only looked up when a text is rendered, so this renders it once with names
/// that have no values, and looks at nothing but that.
fn unknown_words(text: &str) -> Result<(), TemplateError> {
    static REHEARSAL: OnceLock<Environment<'static>> = OnceLock::new();
    let rehearsal = REHEARSAL.get_or_init(|| {
        let mut rehearsal = environment().clone();
        rehearsal.set_undefined_behavior(UndefinedBehavior::Chainable);
        rehearsal
    });
    match render(rehearsal, text, Cell::from(())) {
        Err(error) if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest) => Err(explain(&error)),
        _ => Ok(()),
    }
}

/// Renders a text, as long as it stays within its bound.
fn render(environment: &Environment<'_>, text: &str, context: Cell) -> Result<String, minijinja::Error> {
    let mut out = Bounded(Vec::new());
    environment.template_from_str(text)?.render_captured_to(context, &mut out)?;
    String::from_utf8(out.0).map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Takes as many bytes as a text may have.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(too_long()));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_long() -> String {
    format!("the text grows beyond {} MiB", MAX_OUTPUT / (1024 * 1024))
}

/// Functions that texts can call; the analysis reports them like names.
fn is_function(name: &str) -> bool {
    environment().globals().any(|(global, _)| global == name)
}

/// The expression of a text that is one `{{ … }}` and nothing else.
pub(crate) fn lone_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    // `{{ a }}{{ b }}` also begins and ends like one.
    let lone = !inner.contains("}}") && !inner.contains("{{") && !inner.starts_with('-') && !inner.ends_with('-');
    lone.then_some(inner)
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        // Values are data: the line break at the end of a block text is part of it.
        let mut syntax = SyntaxConfig::builder();
        syntax.keep_trailing_newline(true);
        if let Ok(syntax) = syntax.build() {
            environment.set_syntax(syntax);
        }
        environment.add_filter("repeat", repeated);
        environment
    })
}

/// `{{ "x" | repeat(300) }}`: a text again and again, within what a text may have.
fn repeated(text: &str, times: usize) -> Result<String, minijinja::Error> {
    if text.len().saturating_mul(times) > MAX_OUTPUT {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, too_long()));
    }
    Ok(text.repeat(times))
}

fn explain(error: &minijinja::Error) -> TemplateError {
    let kind = error.kind();
    let message = match (kind, error.detail()) {
        // The only thing that the writer of a text can say.
        (ErrorKind::WriteFailure, _) => too_long(),
        (ErrorKind::OutOfFuel, _) => format!("the template does not come to an end within {FUEL} steps"),
        (ErrorKind::UndefinedError, _) => match error.range().zip(error.template_source()) {
            Some((range, source)) => format!("`{}` has no value", source.get(range).unwrap_or("a name")),
            None => "a name has no value".to_owned(),
        },
        (ErrorKind::SyntaxError, Some(detail)) => format!("template syntax: {detail}"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    TemplateError { message, range: error.range() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn renderer() -> Renderer {
        let names = json!({ "case": { "slug": "s1" }, "n": 7, "list": [1, "a"], "message": { "id": 3 } });
        Renderer::new(names.as_object().unwrap())
    }

    #[test]
    fn a_lone_expression_keeps_its_type_and_other_texts_are_text() {
        let tree = json!({ "a": "{{ n }}", "b": "n={{ n }}", "c": ["{{ list }}", "{{ n }}{{ n }}"], "d": 1.5, "{{ n }}": "x", "e": "{{ message.id + 1 }}" });
        assert_eq!(
            renderer().value(&tree).unwrap(),
            json!({ "a": 7, "b": "n=7", "c": [[1, "a"], "77"], "d": 1.5, "{{ n }}": "x", "e": 4 })
        );
    }

    #[test]
    fn captures_become_names() {
        let mut renderer = renderer();
        assert!(renderer.text("{{ id }}").is_err());
        renderer.set("id", &json!({ "deep": [true] }));
        assert_eq!(renderer.value(&json!("{{ id.deep[0] }}")).unwrap(), json!(true));
    }

    #[test]
    fn what_has_no_value_is_an_error_everywhere() {
        for text in ["{{ nope }}", "x{{ nope }}", "{{ case.nope }}", "{{ nope.deep }}", "{% if nope %}{% endif %}"] {
            let error = renderer().value(&json!(text)).unwrap_err();
            assert!(error.message.contains("has no value"), "{text}: {error}");
        }
    }

    #[test]
    fn endless_templates_end() {
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(renderer().text(text).unwrap_err().message.contains("does not come to an end"));
    }

    #[test]
    fn texts_are_repeated_within_bounds() {
        assert_eq!(renderer().text("{{ 'ab' | repeat(n) }}").unwrap(), "ab".repeat(7));
        let error = renderer().text("{{ 'ab' | repeat(99999999999) }}").unwrap_err();
        assert!(error.message.contains("grows beyond"), "{error}");
    }

    #[test]
    fn a_text_that_grows_ends_before_it_is_held() {
        // 60 TB if it were rendered first and measured then; also where it is only looked at.
        let text = "{% for i in range(9999) %}{{ 'x' | repeat(60000000) }}{% endfor %}";
        let error = renderer().text(text).unwrap_err();
        assert!(error.message.contains("grows beyond"), "{error}");
        assert!(names(text).unwrap().is_empty());
    }

    #[test]
    fn nothing_of_the_outside_is_reachable() {
        for text in ["{% include 'x' %}", "{% import 'x' as y %}", "{{ env('HOME') }}", "{{ open('x') }}"] {
            assert!(renderer().text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn line_breaks_at_the_end_stay() {
        assert_eq!(renderer().text("a {{ n }}\n").unwrap(), "a 7\n");
        assert_eq!(renderer().text("plain\n").unwrap(), "plain\n");
    }

    #[test]
    fn names_are_found_with_their_fields_and_functions_are_none() {
        let found = names("{{ case.slug }}-{{ n }}{% for x in range(3) %}{{ x }}{% endfor %}").unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["case.slug", "n"]);
        assert!(names("plain { text }").unwrap().is_empty());
        assert!(names("{{ n | uper }}").unwrap_err().message.contains("filter"));
        assert!(names("{{ n is od }}").unwrap_err().message.contains("test"));
        assert!(names("{{ n | upper }}{{ a.b | default('x') }}").is_ok());
        let error = names("ab {{ case. }}").unwrap_err();
        assert!(error.message.contains("template syntax"), "{error}");
        assert!(error.range.is_some());
    }
}
