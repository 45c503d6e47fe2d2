//! Pages of lists, as AIP-158 has them.

use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::call::Call;
use crate::error::Violations;
use crate::name::may_be_id;

const VERSION: u32 = 1;
const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1000;
const TOKEN_RULE: &str = "must come from the same query's last answer";

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
        let query = hash(call.method, parent);
        let after = if token.is_empty() {
            None
        } else {
            let after = open(token, &query);
            if after.is_none() {
                violations.add("page_token", TOKEN_RULE);
            }
            after
        };
        Self {
            limit: i64::from(size) + 1,
            after,
            query,
        }
    }

    /// The key of the row that the page begins after, none for the first page. One that no row of the list can have was
    /// made up.
    pub fn key<K: FromStr>(&self, violations: &mut Violations) -> Option<K> {
        let key = self.after.as_deref().map(str::parse)?;
        violations.check("page_token", key.map_err(|_| TOKEN_RULE))
    }

    /// Cuts the rows to the page and gives the token of the next one, empty on the last.
    pub fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> String {
        let size = usize::try_from(self.limit - 1).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        let Some(last) = rows.last() else {
            return String::new();
        };
        let token = Token {
            version: VERSION,
            query: self.query.clone(),
            after: key(last),
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
        let mut rows = vec!["x", "y", "z"];
        let token = first.cut(&mut rows, |row| (*row).to_owned());
        assert_eq!(rows, ["x", "y"]);
        let next = page("List", &token, NAMES).unwrap();
        assert_eq!(next.after.as_deref(), Some("y"));
        let made_up = next.cut(&mut vec!["a", "b", "c"], |_| "a\0".to_owned());
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

    #[test]
    fn every_bad_field_is_named() {
        let call = Call::background(jiff::Timestamp::UNIX_EPOCH, "List");
        let mut bad = Violations::default();
        Page::parse(&call, -1, "x", NAMES, "x", "y", &mut bad);
        assert_eq!(bad.to_string().split("; ").count(), 4);
    }
}
