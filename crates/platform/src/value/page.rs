//! Pages of lists, as AIP-158 has them.

use std::convert::Infallible;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::call::Call;
use crate::name::may_be_id;
use crate::refusal::Violations;

const VERSION: u32 = 1;
const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1000;
/// What weighs so many bytes ends its page: with a last row of as much again, an answer stays below 1 MiB, a quarter of
/// what clients take by default.
const HEAVY: usize = 512 * 1024;
/// Tag and length of a row within the answer, at most.
const FRAME: usize = 6;
pub(crate) const TOKEN_RULE: &str = "must be a token that was given for this query";

/// One page asked for.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many rows to ask the database for: one more than the page holds, to know whether another follows.
    pub limit: i64,
    /// Key of the last row of the page before; none for the first.
    pub after: Option<String>,
    /// Tells the query from every other.
    query: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Token {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    query: Vec<u8>,
    #[prost(string, tag = "3")]
    after: String,
}

impl Page {
    /// Reads a list request's fields. The method, `parent` and everything else that chooses rows is hashed into the
    /// token, so that a token cannot be used with another query.
    pub fn parse(
        call: &Call,
        size: i32,
        token: &str,
        parent: &str,
        filter: &str,
        order_by: &str,
        violations: &mut Violations,
    ) -> Self {
        for (field, value) in [("filter", filter), ("order_by", order_by)] {
            if !value.is_empty() {
                violations.add(field, "must be empty: not available yet");
            }
        }
        let size = match size {
            ..0 => {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            }
            0 => DEFAULT_SIZE,
            size => size.min(MAX_SIZE),
        };
        let first = Self::first(call.method, parent, size);
        let after = if token.is_empty() {
            None
        } else {
            let after = open(token, &first.query);
            if after.is_none() {
                violations.add("page_token", TOKEN_RULE);
            }
            after
        };
        Self { after, ..first }
    }

    /// The first page of a list, for another method whose answer begins it: its token goes on in the list's own method.
    pub fn first(method: &str, parent: &str, size: i32) -> Self {
        Self {
            limit: i64::from(size) + 1,
            after: None,
            query: hash(method, parent),
        }
    }

    /// The key of the row that the page begins after, none for the first page. One that no row of the list can have was
    /// made up.
    pub fn key<K: FromStr>(&self, violations: &mut Violations) -> Option<K> {
        let key = self.after.as_deref().map(str::parse)?;
        violations.check("page_token", key.map_err(|_| TOKEN_RULE))
    }

    /// Cuts the rows to the page, by number and by weight, as they become messages, and gives the token of the next page,
    /// empty on the last. There is no other way to such a token, so that no list forgets its weight.
    pub fn cut<T, M: prost::Message>(
        &self,
        rows: Vec<T>,
        key: impl Fn(&T) -> String,
        mut wire: impl FnMut(T) -> M,
    ) -> (Vec<M>, String) {
        match self.try_cut(rows, key, |row| Ok::<M, Infallible>(wire(row))) {
            Ok(page) => page,
            Err(never) => match never {},
        }
    }

    /// As [`Page::cut`], where a row may turn out to be no message. No row is turned into one but those of the page.
    ///
    /// # Errors
    /// That of the first such row.
    pub fn try_cut<T, M: prost::Message, E>(
        &self,
        rows: Vec<T>,
        key: impl Fn(&T) -> String,
        mut wire: impl FnMut(T) -> Result<M, E>,
    ) -> Result<(Vec<M>, String), E> {
        let size = usize::try_from(self.limit - 1).unwrap_or(usize::MAX);
        let mut messages = Vec::with_capacity(rows.len().min(size));
        let (mut last, mut weight) = (String::new(), 0);
        for row in rows {
            if messages.len() == size || weight >= HEAVY {
                return Ok((messages, self.token(last)));
            }
            last = key(&row);
            let message = wire(row)?;
            weight += FRAME + message.encoded_len();
            messages.push(message);
        }
        Ok((messages, String::new()))
    }

    /// The token of the page that begins after this key.
    pub(crate) fn token(&self, after: String) -> String {
        let token = Token {
            version: VERSION,
            query: self.query.clone(),
            after,
        };
        URL_SAFE_NO_PAD.encode(token.encode_to_vec())
    }
}

fn open(token: &str, query: &[u8]) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let token = Token::decode(bytes.as_slice()).ok()?;
    let ours = token.version == VERSION && token.query == query && may_be_id(&token.after);
    ours.then_some(token.after)
}

fn hash(method: &str, parent: &str) -> Vec<u8> {
    let query = format!("{method} {parent}");
    digest::digest(&digest::SHA256, query.as_bytes()).as_ref()[..8].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "accounts/a";

    fn page(method: &'static str, token: &str, parent: &str) -> Result<Page, String> {
        let call = Call::background(jiff::Timestamp::UNIX_EPOCH, method);
        let mut violations = Violations::default();
        let page = Page::parse(&call, 2, token, parent, "", "", &mut violations);
        violations
            .finish()
            .map(|()| page)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_opens_its_own_query_alone() {
        let first = page("List", "", NAMES).unwrap();
        let (rows, token) = first.cut(vec!["x", "y", "z"], ToString::to_string, str::to_owned);
        assert_eq!(rows, ["x", "y"]);
        let next = page("List", &token, NAMES).unwrap();
        assert_eq!(next.after.as_deref(), Some("y"));
        let (_, made_up) = next.cut(vec!["a", "b", "c"], |_| "a\0".to_owned(), str::to_owned);
        for (method, token, parent) in [
            ("List", token.as_str(), "accounts/b"),
            ("ListOthers", &token, NAMES),
            ("List", &made_up, NAMES),
            ("List", "x", NAMES),
        ] {
            let refused = page(method, token, parent).unwrap_err();
            assert!(refused.starts_with("page_token "), "{refused}");
        }
    }

    /// Pages of rows of these many bytes: how many there are on each.
    fn pages(size: i32, mut rows: &[usize]) -> Vec<usize> {
        let call = Call::background(jiff::Timestamp::UNIX_EPOCH, "List");
        let (mut token, mut counts) = (String::new(), Vec::new());
        loop {
            let mut violations = Violations::default();
            let page = Page::parse(&call, size, &token, NAMES, "", "", &mut violations);
            violations.finish().unwrap();
            let limit = usize::try_from(page.limit).unwrap().min(rows.len());
            let (messages, next) = page.cut(
                rows[..limit].to_vec(),
                |row| row.to_string(),
                |row| vec![0_u8; row],
            );
            let weight: usize = messages.iter().map(|row| row.len() + FRAME).sum();
            assert!(weight < HEAVY + messages.last().map_or(0, Vec::len) + FRAME);
            counts.push(messages.len());
            rows = &rows[messages.len()..];
            if next.is_empty() {
                assert_eq!(rows, [0; 0]);
                return counts;
            }
            token = next;
        }
    }

    #[test]
    fn a_page_is_cut_by_number_and_by_weight() {
        assert_eq!(pages(3, &[1; 7]), [3, 3, 1]);
        assert_eq!(pages(3, &[1; 6]), [3, 3]);
        assert_eq!(pages(10, &[200_000; 7]), [3, 3, 1]);
        assert_eq!(pages(10, &[200_000; 6]), [3, 3]);
        // One that is too heavy alone has a page of its own.
        assert_eq!(pages(10, &[HEAVY; 3]), [1, 1, 1]);
        assert_eq!(pages(0, &[]), [0]);
    }

    #[test]
    fn every_bad_field_is_named() {
        let call = Call::background(jiff::Timestamp::UNIX_EPOCH, "List");
        let mut bad = Violations::default();
        Page::parse(&call, -1, "x", NAMES, "x", "y", &mut bad);
        assert_eq!(bad.to_string().split("; ").count(), 4);
    }
}
