//! Tokens that operators revoke, and those that are revoked.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde::Deserialize;
use serde_json::json;

use super::{Api, body::body, failed, json, problem};
use crate::auth::{Cursor, MAX_BATCH, NotRevoked, Revocation, unix_now};

/// An order of [`MAX_BATCH`] with names of usual lengths.
const MAX_BODY_BYTES: usize = 2 << 20;
/// Entries of a list, where the request does not say.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;

/// The body of an order.
#[derive(Deserialize)]
#[serde(untagged, expecting = "not a revocation, such as {\"jti\": \"…\", \"until\": 1900000000}, or a list of them")]
enum Order {
    One(Revocation),
    Many(Vec<Revocation>),
}

/// What a request wants to see.
#[derive(Debug, Eq, PartialEq)]
struct Page {
    limit: usize,
    after: Option<Cursor>,
}

impl Api {
    pub(super) fn revocations(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let Some(Page { limit, after }) = page(query.unwrap_or_default()) else {
            let detail = format!("the query has a limit of 1 to {MAX_LIMIT}, and after: the next of an earlier answer");
            return problem(StatusCode::BAD_REQUEST, Some(&detail));
        };
        let revocations = &self.state.revocations;
        let (page, next) = revocations.page(after, limit);
        json(&json!({
            "revocations": page,
            "next": next.map(|next| next.text()),
            "count": revocations.len(),
            "persisted": revocations.is_kept(),
        }))
    }

    pub(super) async fn revoke<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        let list = match body(request, MAX_BODY_BYTES).await {
            Ok(Order::One(one)) => vec![one],
            Ok(Order::Many(list)) => list,
            Err(refused) => return refused,
        };
        if list.len() > MAX_BATCH {
            let detail = format!("{} revocations; at most {MAX_BATCH} are accepted at once", list.len());
            return problem(StatusCode::PAYLOAD_TOO_LARGE, Some(&detail));
        }
        let now = unix_now();
        for (index, revocation) in list.iter().enumerate() {
            if let Err(why) = revocation.check(now) {
                return problem(StatusCode::BAD_REQUEST, Some(&format!("revocation {index}: {why}")));
            }
        }
        let count = list.len();
        let revocations = Arc::clone(&self.state.revocations);
        // The file is synced before this is answered.
        let done = tokio::task::spawn_blocking(move || revocations.revoke(&list)).await;
        match done {
            Ok(Ok(())) => {
                let persisted = self.state.revocations.is_kept();
                tracing::info!(count, persisted, "revoked");
                let note = "a restart forgets this: there is no state_dir";
                json(&json!({ "revoked": count, "persisted": persisted, "note": (!persisted).then_some(note) }))
            }
            Ok(Err(error @ NotRevoked::Full)) => problem(StatusCode::INSUFFICIENT_STORAGE, Some(&error.to_string())),
            Ok(Err(NotRevoked::NotWritten(why))) => {
                let error = NotRevoked::NotWritten(why);
                tracing::error!(error = &error as &dyn std::error::Error, "revocations are not written");
                problem(StatusCode::INTERNAL_SERVER_ERROR, Some(&error.to_string()))
            }
            Err(error) => failed(&error),
        }
    }
}

fn page(query: &str) -> Option<Page> {
    let mut page = Page { limit: DEFAULT_LIMIT, after: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("limit", limit) => page.limit = limit.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))?,
            ("after", after) => page.after = Some(Cursor::parse(after)?),
            _ => return None,
        }
    }
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_many_and_after_which() {
        assert_eq!(page(""), Some(Page { limit: DEFAULT_LIMIT, after: None }));
        assert_eq!(page("limit=10000").map(|page| page.limit), Some(10_000));
        let cursor = "00112233445566778899aabbccddeeff";
        assert_eq!(page(&format!("after={cursor}&limit=1")).and_then(|page| page.after).unwrap().text(), cursor);
        for wrong in ["limit", "limit=0", "limit=10001", "limit=-1", "after=", "after=0011", "sub=ann"] {
            assert_eq!(page(wrong), None, "{wrong}");
        }
    }
}
