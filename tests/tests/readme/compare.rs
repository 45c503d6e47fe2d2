//! Whether an answer fits what is written of it.

/// Compares line by line. In what is written, a line of `…` alone stands for any lines, and `…` within a line for any
/// text; times, dates, months and UUIDs differ from run to run, and spaces between tokens from one grpcurl to another.
///
/// # Errors
/// The first written line that does not fit.
pub fn fits(written: &str, answer: &str) -> Result<(), String> {
    let written: Vec<String> = written.trim_end().lines().map(plain).collect();
    let answer: Vec<String> = answer.trim_end().lines().map(plain).collect();
    let mut furthest = 0;
    if lines_fit(&written, &answer, 0, &mut furthest) {
        return Ok(());
    }
    Err(written
        .get(furthest)
        .cloned()
        .unwrap_or_else(|| "the end".to_owned()))
}

fn lines_fit(written: &[String], answer: &[String], at: usize, furthest: &mut usize) -> bool {
    *furthest = at.max(*furthest);
    match written.split_first() {
        None => answer.is_empty(),
        Some((line, rest)) if line == "…" => {
            (0..=answer.len()).any(|skipped| lines_fit(rest, &answer[skipped..], at + 1, furthest))
        }
        Some((line, rest)) => {
            answer.first().is_some_and(|given| line_fits(line, given))
                && lines_fit(rest, &answer[1..], at + 1, furthest)
        }
    }
}

fn line_fits(written: &str, given: &str) -> bool {
    let Some((before, after)) = written.split_once('…') else {
        return written == given;
    };
    let Some(given) = given.strip_prefix(before) else {
        return false;
    };
    let starts = given.char_indices().map(|(at, _)| at).chain([given.len()]);
    starts.into_iter().any(|at| line_fits(after, &given[at..]))
}

/// A line without its spaces, and with marks in the place of what differs from run to run.
fn plain(line: &str) -> String {
    let letters: Vec<char> = line
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let mut plain = String::new();
    let mut at = 0;
    while at < letters.len() {
        let within = at > 0 && letters[at - 1].is_ascii_alphanumeric();
        let shape = SHAPES
            .iter()
            .find(|(shape, _)| !within && has_shape(&letters[at..], shape));
        match shape {
            Some((shape, mark)) => {
                at += shape.len();
                plain.push_str(mark);
                // Of a second, as many digits as there are.
                while *mark == "<time>" && at < letters.len() && ".0123456789".contains(letters[at])
                {
                    at += 1;
                }
            }
            None => {
                plain.push(letters[at]);
                at += 1;
            }
        }
    }
    plain
}

/// What differs from run to run: `0` stands for a digit, `x` for a hexadecimal one.
const SHAPES: [(&str, &str); 4] = [
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<uuid>"),
    ("0000-00-00T00:00:00", "<time>"),
    ("0000-00-00", "<date>"),
    ("\"0000-00\"", "<month>"),
];

fn has_shape(letters: &[char], shape: &str) -> bool {
    letters.len() >= shape.len()
        && shape.chars().zip(letters).all(|(want, have)| match want {
            '0' => have.is_ascii_digit(),
            'x' => have.is_ascii_hexdigit(),
            other => *have == other,
        })
}

#[test]
fn what_differs_from_run_to_run_is_not_compared() {
    let written = r#"{
  "name": "accounts/acme/emails/01a20498-9b1a-74ec-bb9c-54234153a0b3",
  "time": "2026-11-22T18:50:39.736287Z",
  "month": "2026-11",
  …
  "text": "…Password: 42…",
  "etag": "1"
}"#;
    let answer = r#"{
  "name":  "accounts/acme/emails/0aaaaaaa-0000-74ec-bb9c-000000000000",
  "time": "2030-01-01T00:00:00Z",
  "month": "2030-01",
  "one": 1,
  "two": 2,
  "text": "Hello, Password: 42 and so on",
  "etag": "1"
}"#;
    assert_eq!(fits(written, answer), Ok(()));
    assert_eq!(
        fits(written, &answer.replace("\"1\"", "\"2\"")),
        Err("\"etag\":\"1\"".to_owned())
    );
    assert!(fits(written, &answer.replace("Password", "Word")).is_err());
    assert!(fits(written, &answer.replace("accounts/", "")).is_err());
    assert!(fits(written, &format!("{answer}\nmore")).is_err());
    assert!(fits(&written.replace('…', ""), answer).is_err());
}
