//! The SQL statements of the sources, with what their macros make of them.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::repository::{Source, sources};

/// A statement: a text that begins with its name, as in "-- name".
pub struct Statement {
    pub path: String,
    pub text: String,
}

/// Every statement of a crate's sources, without their unit tests.
pub fn statements(of: &str) -> Vec<Statement> {
    let files: Vec<(Source, Vec<Token>)> = sources(&format!("crates/{of}/src"), ".rs")
        .into_iter()
        .map(|file| {
            let code: Vec<&str> = file.code_without_tests().map(|(_, line)| line).collect();
            let tokens = group(&mut code.join("\n").chars().peekable());
            (file, tokens)
        })
        .collect();
    let shared: Macros = files
        .iter()
        .flat_map(|(_, tokens)| macros(tokens))
        .collect();
    let mut found = Vec::new();
    for (file, tokens) in &files {
        // Two files may have a macro of the same name.
        let mut known = shared.clone();
        known.extend(macros(tokens));
        let mut texts = Vec::new();
        collect(tokens, &known, &mut texts);
        found.extend(texts.into_iter().map(|text| Statement {
            path: file.path.clone(),
            text,
        }));
    }
    found
}

#[derive(Clone, PartialEq)]
enum Token {
    Text(String),
    /// A name, with the `!` of a macro or the `$` of its parameter.
    Word(String),
    Mark(char),
    Group(Vec<Token>),
}

/// A macro's arms: the parameters of each, and its body.
type Macros = HashMap<String, Vec<(Vec<String>, Vec<Token>)>>;

/// Tokens up to the bracket that closes the group, or the end.
fn group(chars: &mut Peekable<Chars<'_>>) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(char) = chars.next() {
        match char {
            '(' | '[' | '{' => tokens.push(Token::Group(group(chars))),
            ')' | ']' | '}' => break,
            '"' => tokens.push(Token::Text(text(chars))),
            '\'' => character(chars),
            '$' | '_' | 'a'..='z' | 'A'..='Z' => {
                let mut word = String::from(char);
                while let Some(next) = chars.next_if(|it| it.is_ascii_alphanumeric() || *it == '_')
                {
                    word.push(next);
                }
                if word == "r" && matches!(chars.peek(), Some('"' | '#')) {
                    tokens.push(Token::Text(raw_text(chars)));
                } else {
                    word.extend(chars.next_if_eq(&'!'));
                    tokens.push(Token::Word(word));
                }
            }
            _ if char.is_whitespace() => {}
            _ => tokens.push(Token::Mark(char)),
        }
    }
    tokens
}

fn text(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => text.extend(chars.next().filter(|it| *it == '"' || *it == '\\')),
            _ => text.push(char),
        }
    }
    text
}

fn raw_text(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut fence = String::from("\"");
    while chars.next_if_eq(&'#').is_some() {
        fence.push('#');
    }
    let mut text = String::new();
    chars.next();
    while !text.ends_with(&fence) {
        let Some(char) = chars.next() else { break };
        text.push(char);
    }
    text.truncate(text.len().saturating_sub(fence.len()));
    text
}

/// Passes over a character, or a lifetime's mark.
fn character(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    let escaped = ahead.next_if_eq(&'\\').is_some();
    ahead.next();
    if ahead.next_if_eq(&'\'').is_some() {
        *chars = ahead;
    } else if escaped {
        while chars.next().is_some_and(|it| it != '\'') {}
    }
}

fn macros(tokens: &[Token]) -> Macros {
    let mut found = Macros::new();
    for three in tokens.windows(3) {
        let [Token::Word(word), Token::Word(name), Token::Group(arms)] = three else {
            continue;
        };
        if word != "macro_rules!" {
            continue;
        }
        let groups = arms.iter().filter_map(|token| match token {
            Token::Group(inner) => Some(inner.clone()),
            _ => None,
        });
        let groups: Vec<Vec<Token>> = groups.collect();
        let arms = groups.chunks(2).map(|arm| {
            let params = arm[0].iter().filter_map(|token| match token {
                Token::Word(word) if word.starts_with('$') => Some(word.clone()),
                _ => None,
            });
            (params.collect(), arm[1].clone())
        });
        found.insert(format!("{name}!"), arms.collect());
    }
    found
}

/// The text that a literal or a macro comes to, and how many tokens it takes; none for anything else.
fn value(tokens: &[Token], macros: &Macros) -> Option<(String, usize)> {
    match tokens {
        [Token::Text(text), ..] => Some((text.clone(), 1)),
        [Token::Word(name), Token::Group(inner), ..] if name == "concat!" => {
            let parts = arguments(inner).into_iter();
            let parts = parts.filter_map(|part| Some(value(part, macros)?.0));
            Some((parts.collect(), 2))
        }
        [Token::Word(name), Token::Group(inner), ..] => {
            let given = arguments(inner);
            let mut arms = macros.get(name)?.iter();
            let (params, body) = arms.find(|(params, _)| params.len() == given.len())?;
            let known = params.iter().map(String::as_str).zip(given).collect();
            Some((value(&substituted(body, &known), macros)?.0, 2))
        }
        _ => None,
    }
}

fn arguments(tokens: &[Token]) -> Vec<&[Token]> {
    let parts = tokens.split(|token| *token == Token::Mark(','));
    parts.filter(|part| !part.is_empty()).collect()
}

fn substituted(body: &[Token], known: &HashMap<&str, &[Token]>) -> Vec<Token> {
    let mut tokens = Vec::new();
    for token in body {
        match token {
            Token::Word(word) if known.contains_key(word.as_str()) => {
                // A word before the value tells a reader something: `if "…"`.
                let given = known[word.as_str()];
                tokens.extend(
                    given
                        .iter()
                        .filter(|it| **it != Token::Word("if".to_owned()))
                        .cloned(),
                );
            }
            Token::Group(inner) => tokens.push(Token::Group(substituted(inner, known))),
            other => tokens.push(other.clone()),
        }
    }
    tokens
}

fn collect(tokens: &[Token], macros: &Macros, texts: &mut Vec<String>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Token::Word(word) = &tokens[at]
            && word == "macro_rules!"
        {
            at += 3;
        } else if let Some((text, taken)) = value(&tokens[at..], macros) {
            let is_statement = text.trim_start().starts_with("-- ");
            texts.extend(Some(text).filter(|_| is_statement));
            at += taken;
        } else {
            if let Token::Group(inner) = &tokens[at] {
                collect(inner, macros, texts);
            }
            at += 1;
        }
    }
}

#[test]
fn macros_are_expanded() {
    let code = r##"
        macro_rules! columns { () => { "a.x, a.y" }; }
        macro_rules! select {
            ($name:literal, $rest:literal) => { select!($name, "a", $rest) };
            ($name:literal, $from:literal, $rest:literal) => {
                concat!("-- ", $name, " SELECT ", columns!(), " FROM ", $from, " ", $rest)
            };
        }
        const ONE: &str = select!("one", "WHERE x = 'it''s'");
        async fn two<'a>(db: &'a Db) { db.query(concat!(select!("two", "b a", "LIMIT 1"), " FOR UPDATE"), &['"', '\'']).await }
        const THREE: &str = r#"-- three SELECT "x""#;
    "##;
    let tokens = group(&mut code.chars().peekable());
    let mut texts = Vec::new();
    collect(&tokens, &macros(&tokens), &mut texts);
    let expected = [
        "-- one SELECT a.x, a.y FROM a WHERE x = 'it''s'",
        "-- two SELECT a.x, a.y FROM b a LIMIT 1 FOR UPDATE",
        "-- three SELECT \"x\"",
    ];
    assert_eq!(texts, expected);
}
