//! Pages of lists, as AIP-158 has them.

use std::convert::Infallible;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use octroi_api::{Listing, Paging};
use prost::Message as _;

use crate::call::Call;
use crate::error::Error;
use crate::name::may_be_id;
use crate::refusal::Violations;
use crate::request::{Fields, fields};

const VERSION: u32 = 1;
const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1000;
/// What weighs so many bytes ends its page: with a last row of as much again, an answer stays below 1 MiB, a quarter of
/// what clients take by default.
const HEAVY: usize = 512 * 1024;
/// Tag and length of a row within the answer, at most.
const FRAME: usize = 6;
pub(crate) const TOKEN_RULE: &str = "must be a token that was given for this query";

/// One page asked for, of rows in the order of their keys.
#[derive(Debug, Clone)]
pub struct Page<K> {
    /// How many rows to ask the database for: one more than the page holds, to know whether another follows.
    pub limit: i64,
    /// Key of the last row of the page before; none for the first.
    pub after: Option<K>,
    /// Hash that identifies the list.
    list: Vec<u8>,
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

impl<K: FromStr> Page<K> {
    /// Reads a request for a page of a list; `read` converts the rest of it.
    ///
    /// # Errors
    /// As [`request::open`](crate::request::open).
    pub fn open<M: Listing, T>(
        request: tonic::Request<M>,
        read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
    ) -> Result<(Call, T, Self), Error> {
        Self::open_about(request, |_| Ok(String::new()), read)
    }

    /// Reads a request for a page of a list of something which its message does not say, such as the licence of the
    /// session that it comes in.
    ///
    /// # Errors
    /// As [`request::command_about`](crate::request::command_about).
    pub fn open_about<M: Listing, T>(
        request: tonic::Request<M>,
        about: impl FnOnce(&Call) -> Result<String, Error>,
        read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
    ) -> Result<(Call, T, Self), Error> {
        let (call, mut message) = Call::open(request)?;
        let about = about(&call)?;
        let paging = message.take_paging();
        let list = hash(&[call.method, &about].concat(), &message.chooses());
        let read = fields(&call, |fields| {
            let page = Self::read(paging, list, fields);
            Some((page, read(message, fields)?))
        });
        let (page, read) = read.map_err(|failure| call.no_list(failure))?;
        Ok((call, read, page))
    }

    /// Reads which page of a list is asked for. A token is good for the list that it was given for: the hash tells it from
    /// every other, as all does that chooses its rows.
    pub(crate) fn read(paging: Paging, list: Vec<u8>, violations: &mut Violations) -> Self {
        for (field, value) in [("filter", paging.filter), ("order_by", paging.order_by)] {
            if !value.is_empty() {
                violations.add(field, "must be empty: not available yet");
            }
        }
        let size = match paging.size {
            ..0 => {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            }
            0 => DEFAULT_SIZE,
            size => size.min(MAX_SIZE),
        };
        let after = if paging.token.is_empty() {
            None
        } else {
            let key = open(&paging.token, &list).and_then(|key| key.parse().ok());
            violations.check("page_token", key.ok_or(TOKEN_RULE))
        };
        Self {
            limit: i64::from(size) + 1,
            after,
            list,
        }
    }

    /// The first page of a list, for another method whose answer begins it: its token goes on in the list's own method,
    /// whose request, for the same list, is given.
    pub fn first<M: Listing>(method: &str, mut request: M, size: i32) -> Self {
        request.take_paging();
        Self {
            limit: i64::from(size) + 1,
            after: None,
            list: hash(method, &request.chooses()),
        }
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
            query: self.list.clone(),
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

/// Identifies a list: by its method and by the request without its paging fields.
pub(crate) fn hash(method: &str, list: &[u8]) -> Vec<u8> {
    let list = [method.as_bytes(), b" ", list].concat();
    digest::digest(&digest::SHA256, &list).as_ref()[..8].to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use octroi_api::licensing::v1::ListOrdersRequest;

    use super::*;

    /// Reads a page of a list, or says why it cannot.
    fn page(list: &ListOrdersRequest, token: &str) -> Result<Page<String>, String> {
        let mut request = tonic::Request::new(ListOrdersRequest {
            page_token: token.to_owned(),
            ..list.clone()
        });
        request
            .extensions_mut()
            .insert(Call::background(Timestamp::UNIX_EPOCH, "List"));
        Page::open(request, |_, _| Some(()))
            .map(|(_, (), page)| page)
            .map_err(|error| error.to_string())
    }

    fn list(parent: &str, page_size: i32) -> ListOrdersRequest {
        ListOrdersRequest {
            parent: parent.to_owned(),
            page_size,
            ..ListOrdersRequest::default()
        }
    }

    #[test]
    fn a_token_opens_its_own_list_alone() {
        let own = list("accounts/a", 2);
        let first = page(&own, "").unwrap();
        let (rows, token) = first.cut(vec!["x", "y", "z"], ToString::to_string, str::to_owned);
        assert_eq!(rows, ["x", "y"]);
        let next = page(&own, &token).unwrap();
        assert_eq!(next.after.as_deref(), Some("y"));
        assert_eq!(page(&list("accounts/a", 7), &token).unwrap().limit, 8);
        let (_, made_up) = next.cut(vec!["a", "b", "c"], |_| "a\0".to_owned(), str::to_owned);
        let carried = Page::<String>::first("Other", own.clone(), 1).token("y".to_owned());
        for (list, token) in [
            (list("accounts/b", 2), token.as_str()),
            (own.clone(), &made_up),
            (own.clone(), &carried),
            (own.clone(), "x"),
        ] {
            let refused = page(&list, token).unwrap_err();
            assert!(refused.starts_with("page_token "), "{refused}");
        }
        let carried = Page::<String>::first("List", own.clone(), 1).token("y".to_owned());
        assert_eq!(page(&own, &carried).unwrap().after.as_deref(), Some("y"));
    }

    /// What chooses and orders the rows is of the list, as its parent is.
    #[test]
    fn filter_and_order_tell_lists_apart() {
        let lists = ["", "state = PAID"].map(|filter| {
            ["", "create_time desc"].map(|order_by| {
                let mut request = list("accounts/a", 1);
                (request.filter, request.order_by) = (filter.to_owned(), order_by.to_owned());
                request.take_paging();
                hash("List", &request.encode_to_vec())
            })
        });
        let different: BTreeSet<_> = lists.iter().flatten().collect();
        assert_eq!(different.len(), 4);
    }

    /// Pages of rows of these many bytes: how many there are on each.
    fn pages(size: i32, mut rows: &[usize]) -> Vec<usize> {
        let (mut token, mut counts) = (String::new(), Vec::new());
        loop {
            let page = page(&list("accounts/a", size), &token).unwrap();
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
        let mut request = list("accounts/a", -1);
        (request.filter, request.order_by) = ("x".to_owned(), "y".to_owned());
        let bad = page(&request, "x").unwrap_err();
        assert_eq!(bad.split("; ").count(), 4, "{bad}");
    }
}
