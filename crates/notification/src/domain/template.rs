//! A small part of Mustache, enough for a letter: `{{name}}` puts a value in, `{{#name}}…{{/name}}` shows its inside
//! where the value is not empty and repeats it for each item of a list, `{{^name}}…{{/name}}` shows it where the value
//! is empty. A section's tag that stands alone on its line leaves no line. A name without a value is an error, so that
//! a misspelt one cannot reach a customer.

use std::collections::BTreeMap;

use octroi_platform::text::is_unseen;

/// The values that a template may name.
pub type Scope = BTreeMap<&'static str, Value>;

/// What a name stands for.
pub enum Value {
    /// Text, escaped where the template is HTML. Control characters become spaces: a value never starts a line.
    Text(String),
    /// HTML that was rendered before, put in as it is.
    Html(String),
    /// Items, each with names of its own that hide the outer ones.
    List(Vec<Scope>),
}

impl Value {
    fn is_empty(&self) -> bool {
        match self {
            Value::Text(text) | Value::Html(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
        }
    }
}

/// What a template is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain text.
    Text,
    /// HTML; values are escaped for element content and quoted attributes.
    Html,
}

/// A template is wrong, or does not fit its values.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// `{{` without `}}`, or a tag without a name.
    #[error("a tag is not closed or not named")]
    BadTag,
    /// A section is closed that is not the innermost open one, or never closed.
    #[error("section {0:?} is not opened and closed in pairs")]
    Unbalanced(String),
    /// No value has this name.
    #[error("no value is called {0:?}")]
    UnknownName(String),
    /// The value cannot be put in here.
    #[error("{0:?} cannot stand in this place")]
    WrongKind(String),
}

/// Renders a template with its values.
///
/// # Errors
/// A malformed template, a name without a value, a list where text belongs, or HTML in a text.
pub fn render(template: &str, scope: &Scope, format: Format) -> Result<String, TemplateError> {
    let mut rest = template;
    let nodes = parse(&mut rest, None)?;
    let mut out = String::with_capacity(template.len() * 2);
    write(&nodes, &[scope], format, &mut out)?;
    Ok(out)
}

enum Node<'t> {
    Text(&'t str),
    Value(&'t str),
    Section {
        name: &'t str,
        inverted: bool,
        inside: Vec<Node<'t>>,
    },
}

/// Reads nodes up to the end of the section `open`, or of the template, and leaves `rest` behind it.
fn parse<'t>(rest: &mut &'t str, open: Option<&'t str>) -> Result<Vec<Node<'t>>, TemplateError> {
    let mut nodes = Vec::new();
    while let Some(start) = rest.find("{{") {
        let (text, tagged) = rest.split_at(start);
        let (tag, after) = tagged[2..].split_once("}}").ok_or(TemplateError::BadTag)?;
        let (kind, name) = match tag.as_bytes().first() {
            Some(kind @ (b'#' | b'^' | b'/')) => (*kind, &tag[1..]),
            _ => (b' ', tag),
        };
        let named = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if name.is_empty() || !name.bytes().all(named) {
            return Err(TemplateError::BadTag);
        }
        if kind == b' ' {
            nodes.extend([Node::Text(text), Node::Value(name)]);
            *rest = after;
            continue;
        }
        let (text, after) = alone(text, after).unwrap_or((text, after));
        nodes.push(Node::Text(text));
        *rest = after;
        if kind == b'/' {
            return match open {
                Some(open) if open == name => Ok(nodes),
                _ => Err(TemplateError::Unbalanced(name.to_owned())),
            };
        }
        let inside = parse(rest, Some(name))?;
        nodes.push(Node::Section {
            name,
            inverted: kind == b'^',
            inside,
        });
    }
    if let Some(open) = open {
        return Err(TemplateError::Unbalanced(open.to_owned()));
    }
    nodes.push(Node::Text(rest));
    *rest = "";
    Ok(nodes)
}

/// The text before and after a tag that has its line for itself, without that line.
fn alone<'t>(before: &'t str, after: &'t str) -> Option<(&'t str, &'t str)> {
    let (line, next) = after.split_once('\n').unwrap_or((after, ""));
    let own = before.rfind('\n').map_or(0, |at| at + 1);
    let blank = before[own..].trim().is_empty() && line.trim().is_empty();
    blank.then_some((&before[..own], next))
}

fn write(
    nodes: &[Node<'_>],
    scopes: &[&Scope],
    format: Format,
    out: &mut String,
) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Value(name) => match (find(name, scopes)?, format) {
                (Value::Text(text), Format::Text) => out.extend(text.chars().map(printable)),
                (Value::Text(text), Format::Html) => escape(text, out),
                (Value::Html(html), Format::Html) => out.push_str(html),
                (Value::Html(_) | Value::List(_), _) => {
                    return Err(TemplateError::WrongKind((*name).to_owned()));
                }
            },
            Node::Section {
                name,
                inverted,
                inside,
            } => match find(name, scopes)? {
                value if *inverted => {
                    if value.is_empty() {
                        write(inside, scopes, format, out)?;
                    }
                }
                Value::List(items) => {
                    for item in items {
                        let mut inner = scopes.to_vec();
                        inner.push(item);
                        write(inside, &inner, format, out)?;
                    }
                }
                value => {
                    if !value.is_empty() {
                        write(inside, scopes, format, out)?;
                    }
                }
            },
        }
    }
    Ok(())
}

fn find<'v>(name: &str, scopes: &[&'v Scope]) -> Result<&'v Value, TemplateError> {
    scopes
        .iter()
        .rev()
        .find_map(|scope| scope.get(name))
        .ok_or_else(|| TemplateError::UnknownName(name.to_owned()))
}

fn printable(character: char) -> char {
    if is_unseen(character) { ' ' } else { character }
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars().map(printable) {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> Scope {
        let line = |name: &str| Scope::from([("name", Value::Text(name.to_owned()))]);
        Scope::from([
            ("name", Value::Text("A & B\r\n<i>".to_owned())),
            ("none", Value::Text(String::new())),
            ("body", Value::Html("<b>".to_owned())),
            ("lines", Value::List(vec![line("x"), line("y")])),
            ("nothing", Value::List(Vec::new())),
        ])
    }

    #[test]
    fn values_are_put_in_and_escaped_in_html_alone() {
        let of = |format| render("[{{name}}]", &scope(), format).unwrap();
        assert_eq!(of(Format::Text), "[A & B  <i>]");
        assert_eq!(of(Format::Html), "[A &amp; B  &lt;i&gt;]");
        assert_eq!(render("{{body}}", &scope(), Format::Html).unwrap(), "<b>");
    }

    #[test]
    fn sections_show_repeat_and_leave_no_line() {
        let template = "a\n{{#lines}}\n- {{name}}\n{{/lines}}\n{{^none}}\nempty\n{{/none}}\nz {{#nothing}}never{{/nothing}}!";
        assert_eq!(
            render(template, &scope(), Format::Text).unwrap(),
            "a\n- x\n- y\nempty\nz !"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |template, format| render(template, &scope(), format).unwrap_err();
        assert_eq!(of("{{name", Format::Text), TemplateError::BadTag);
        assert_eq!(of("{{ name }}", Format::Text), TemplateError::BadTag);
        let unbalanced = |name: &str| TemplateError::Unbalanced(name.to_owned());
        assert_eq!(of("{{#name}}", Format::Text), unbalanced("name"));
        assert_eq!(of("{{/name}}", Format::Text), unbalanced("name"));
        assert_eq!(
            of("{{#lines}}{{#name}}{{/lines}}{{/name}}", Format::Text),
            unbalanced("lines")
        );
        let unknown = TemplateError::UnknownName("nmae".to_owned());
        assert_eq!(of("{{nmae}}", Format::Text), unknown);
        let wrong = |name: &str| TemplateError::WrongKind(name.to_owned());
        assert_eq!(of("{{lines}}", Format::Html), wrong("lines"));
        assert_eq!(of("{{body}}", Format::Text), wrong("body"));
    }

    proptest! {
        #[test]
        fn no_value_can_open_a_tag_or_a_line(text in "\\PC*|[<>&\"'\n\r\u{0}]*") {
            let scope = Scope::from([("name", Value::Text(text))]);
            let html = render("{{name}}", &scope, Format::Html).unwrap();
            prop_assert!(!html.contains(['<', '>', '"', '\'', '\n', '\r']));
            let text = render("{{name}}", &scope, Format::Text).unwrap();
            prop_assert!(!text.contains(is_unseen));
        }

        #[test]
        fn any_template_renders_or_is_refused(template in "([{}#^/a-z ]|\\{\\{|\\}\\}|\n)*") {
            let _ = render(&template, &scope(), Format::Text);
        }
    }
}
