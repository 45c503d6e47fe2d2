//! As much of MIME as the messages of Octroi use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A header's value, unfolded; empty when it is missing.
pub(crate) fn header(entity: &str, name: &str) -> String {
    let (head, _) = split(entity);
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    unfolded
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

/// The first part of a type, decoded; empty when there is none.
pub(crate) fn part(entity: &str, wanted: &str) -> String {
    let kind = header(entity, "Content-Type");
    let (_, body) = split(entity);
    if let Some(boundary) = parameter(&kind, "boundary") {
        let delimiter = format!("--{boundary}");
        return body
            .split(delimiter.as_str())
            .skip(1)
            .map(|inner| part(inner.trim_start_matches("\r\n"), wanted))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
    }
    if !kind.to_ascii_lowercase().starts_with(wanted) {
        return String::new();
    }
    let bytes = match header(entity, "Content-Transfer-Encoding").as_str() {
        "base64" => STANDARD
            .decode(body.split_ascii_whitespace().collect::<String>())
            .unwrap(),
        "quoted-printable" => quoted_printable(body),
        _ => body.as_bytes().to_vec(),
    };
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

fn split(entity: &str) -> (&str, &str) {
    entity.split_once("\r\n\r\n").unwrap_or((entity, ""))
}

fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim_matches('"'))
    })
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((plain, escaped)) = rest.split_once('=') {
        decoded.extend_from_slice(plain.as_bytes());
        rest = match escaped.strip_prefix("\r\n") {
            Some(next) => next,
            None => {
                let (hex, next) = escaped.split_at(2);
                decoded.push(u8::from_str_radix(hex, 16).unwrap());
                next
            }
        };
    }
    decoded.extend_from_slice(rest.as_bytes());
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_decoded() {
        let letter = "Subject: two\r\n words\r\nContent-Type: multipart/alternative;\r\n boundary=\"x y\"\r\n\r\n\
            --x y\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            caf=C3=A9 =\r\nau lait\r\n--x y\r\nContent-Type: text/html; charset=utf-8\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nPGI+\r\n\r\n--x y--\r\n";
        assert_eq!(header(letter, "subject"), "two words");
        assert_eq!(part(letter, "text/plain"), "café au lait\n");
        assert_eq!(part(letter, "text/html"), "<b>");
        assert_eq!(part(letter, "text/calendar"), "");
    }
}
