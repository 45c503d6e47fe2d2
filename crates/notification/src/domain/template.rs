//! Templates are Jinja, and strict: a name without a value is an error, so that a misspelt one cannot reach a customer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};
use octroi_platform::text::is_unseen;

/// The values that a template may name.
pub type Scope = BTreeMap<&'static str, Value>;

/// A template's file.
#[derive(Clone, Copy)]
pub struct Template {
    /// Its path, which errors name. Where it ends in `.html`, values are escaped.
    pub path: &'static str,
    /// What it says.
    pub source: &'static str,
}

impl Template {
    /// The text with its values put in.
    ///
    /// # Errors
    /// A malformed template, a name without a value, or a list where text belongs.
    pub fn render(self, scope: &Scope) -> Result<String, Error> {
        parse(self.path, self.source)?.render(scope)
    }
}

/// Reads a template.
///
/// # Errors
/// A malformed template.
pub fn parse<'t>(path: &'t str, source: &'t str) -> Result<minijinja::Template<'t, 't>, Error> {
    ENGINE.template_from_named_str(path, source)
}

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::empty();
    engine.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|path| match path.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    engine.set_formatter(put_in);
    engine
});

/// Puts a value in. Control characters become spaces, so that none starts a line; in HTML it is escaped for element
/// content and quoted attributes, unless it is HTML that was rendered before.
fn put_in(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let text = value
        .as_str()
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "only text can be put in"))?;
    if value.is_safe() {
        return Ok(out.write_str(text)?);
    }
    let html = matches!(state.auto_escape(), AutoEscape::Html);
    for character in text.chars() {
        match character {
            '&' if html => out.write_str("&amp;")?,
            '<' if html => out.write_str("&lt;")?,
            '>' if html => out.write_str("&gt;")?,
            '"' if html => out.write_str("&quot;")?,
            '\'' if html => out.write_str("&#39;")?,
            unseen if is_unseen(unseen) => out.write_str(" ")?,
            other => out.write_str(other.encode_utf8(&mut [0; 4]))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(path: &'static str, source: &'static str) -> Result<String, ErrorKind> {
        let line = |name: &str| Scope::from([("name", Value::from(name))]);
        let scope = Scope::from([
            ("name", Value::from("A & B\r\n<i>")),
            ("none", Value::from("")),
            ("body", Value::from_safe_string("<b>".to_owned())),
            ("lines", Value::from_iter([line("x"), line("y")])),
        ]);
        let rendered = Template { path, source }.render(&scope);
        rendered.map_err(|error| error.kind())
    }

    #[test]
    fn values_are_put_in_and_escaped_in_html_alone() {
        let text = render("a.txt", "[{{ name }}]").unwrap();
        assert_eq!(text, "[A & B  <i>]");
        let html = render("a.html", "[{{ name }}{{ body }}]").unwrap();
        assert_eq!(html, "[A &amp; B  &lt;i&gt;<b>]");
    }

    #[test]
    fn blocks_show_repeat_and_leave_no_line() {
        let template = "a\n{% for line in lines %}\n- {{ line.name }}\n{% endfor %}\n{% if none %}\nx\n{% else %}\n\
                        empty\n{% endif %}\nz {% if none %}never{% endif %}!\n";
        let text = render("a.txt", template).unwrap();
        assert_eq!(text, "a\n- x\n- y\nempty\nz !\n");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let wrong = |source| render("a.txt", source).unwrap_err();
        assert_eq!(wrong("{{ nmae }}"), ErrorKind::UndefinedError);
        assert_eq!(wrong("{% if nmae %}{% endif %}"), ErrorKind::UndefinedError);
        assert_eq!(wrong("{{ lines }}"), ErrorKind::InvalidOperation);
        assert_eq!(wrong("{{ name"), ErrorKind::SyntaxError);
        assert_eq!(wrong("{% if name %}"), ErrorKind::SyntaxError);
    }

    proptest! {
        #[test]
        fn no_value_can_open_a_tag_or_a_line(text in "\\PC*|[<>&\"'\n\r\u{0}]*") {
            let scope = Scope::from([("name", Value::from(text))]);
            let of = |path| Template { path, source: "{{ name }}" }.render(&scope).unwrap();
            prop_assert!(!of("a.html").contains(['<', '>', '"', '\'', '\n', '\r']));
            prop_assert!(!of("a.txt").contains(is_unseen));
        }
    }
}
