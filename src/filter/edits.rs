//! What filters say of headers, checked; and the answers of a chain's filters merged.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    Admission, Edits,
    bindings::{
        exports::wsgate::filter::handler::Admission as Declared,
        wsgate::filter::types::{HeaderEdits, HeaderResult, Refusal},
    },
};

/// Headers in one list of edits, or of a refusal; further ones are left out.
const HEADERS: usize = 64;
/// Tags of one filter.
const TAGS: usize = 16;
/// Longest name or value of a tag.
const TAG_BYTES: usize = 256;

impl Admission {
    /// Adds what the next filter of the chain says; it wins over those before.
    pub(super) fn merge(&mut self, filter: &str, declared: Declared) {
        self.upstream_headers.merge(filter, declared.upstream_headers);
        self.client_headers.merge(filter, declared.client_headers);
        self.subprotocol = declared.subprotocol.or_else(|| self.subprotocol.take());
        self.upstream = declared.upstream.or_else(|| self.upstream.take());
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(TAG_BYTES));
            text
        };
        for (name, value) in declared.tags.into_iter().take(TAGS) {
            let (name, value) = (cut(name), cut(value));
            self.tags.retain(|(known, _)| *known != name);
            self.tags.push((name, value));
        }
    }
}

impl Edits {
    /// One filter's edits happen in this order: remove, set, append.
    fn merge(&mut self, filter: &str, edits: HeaderEdits) {
        for name in edits.remove.into_iter().take(HEADERS) {
            if let Some(name) = checked_name(filter, &name) {
                self.forget(&name);
                self.remove.push(name);
            }
        }
        for (name, value) in checked(filter, edits.set) {
            // A name that is set twice in one list keeps the last value.
            self.forget(&name);
            self.set.push((name, value));
        }
        self.append.extend(checked(filter, edits.append));
    }

    fn forget(&mut self, name: &HeaderName) {
        self.remove.retain(|known| known != name);
        self.set.retain(|(known, _)| known != name);
        self.append.retain(|(known, _)| known != name);
    }
}

/// The headers of a refusal.
pub(super) fn refusal_headers(filter: &str, refusal: &mut Refusal) -> Vec<(HeaderName, HeaderValue)> {
    checked(filter, std::mem::take(&mut refusal.headers)).collect()
}

/// 400-599; anything else is the filter's mistake and becomes 500.
pub(super) fn refusal_status(filter: &str, status: u16) -> StatusCode {
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_client_error() || status.is_server_error() => status,
        _ => {
            tracing::warn!(filter, status, "a filter refused with a status outside 400-599: 500 is answered");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn checked(filter: &str, headers: Vec<HeaderResult>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.into_iter().take(HEADERS).filter_map(move |header| {
        let name = checked_name(filter, &header.name)?;
        match HeaderValue::from_bytes(&header.value) {
            Ok(value) => Some((name, value)),
            Err(_) => {
                tracing::warn!(filter, header = name.as_str(), "a filter gave an invalid header value: left out");
                None
            }
        }
    })
}

fn checked_name(filter: &str, name: &str) -> Option<HeaderName> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) if is_allowed(&name) => Some(name),
        Ok(name) => {
            tracing::warn!(filter, header = name.as_str(), "a filter edited a header that is the gateway's: left out");
            None
        }
        Err(_) => {
            tracing::warn!(filter, header = ?name.get(..64).unwrap_or(name), "a filter gave an invalid header name: left out");
            None
        }
    }
}

/// Headers that frame the message, name the hop or make the upgrade are the gateway's alone.
fn is_allowed(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("sec-websocket-")
        && !name.starts_with("proxy-")
        && !matches!(
            name,
            "connection"
                | "content-length"
                | "host"
                | "keep-alive"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> HeaderResult {
        HeaderResult { name: name.to_owned(), value: value.as_bytes().to_vec() }
    }

    fn edits(set: &[(&str, &str)], append: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
        let headers = |list: &[(&str, &str)]| list.iter().map(|(name, value)| header(name, value)).collect();
        HeaderEdits {
            set: headers(set),
            append: headers(append),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn the_gateways_headers_are_left_out() {
        let mut merged = Edits::default();
        let names =
            ["Host", "Connection", "Upgrade", "Sec-WebSocket-Key", "Content-Length", "Transfer-Encoding", "a b"];
        for name in names {
            merged.merge("test", edits(&[(name, "x")], &[(name, "x")], &[name]));
        }
        merged.merge("test", edits(&[("x-ok", "a\nb")], &[], &[]));
        assert!(merged.set.is_empty() && merged.append.is_empty() && merged.remove.is_empty());
    }

    #[test]
    fn the_later_filter_wins() {
        let mut merged = Edits::default();
        merged.merge("first", edits(&[("x-a", "1"), ("x-b", "1")], &[("x-c", "1")], &[]));
        merged.merge("second", edits(&[("x-a", "2")], &[("x-c", "2")], &["x-b"]));
        let set: Vec<_> = merged.set.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(set, [("x-a", b"2".as_slice())]);
        assert_eq!(merged.append.len(), 2);
        assert_eq!(merged.remove, ["x-b"]);
    }

    #[test]
    fn a_refusal_is_an_error_status() {
        assert_eq!(refusal_status("test", 403), StatusCode::FORBIDDEN);
        for status in [0, 101, 200, 302, 600, 999] {
            assert_eq!(refusal_status("test", status), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
