//! `request_headers` and `subprotocols` of a route.

use std::collections::BTreeSet;

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST},
};

use super::{
    super::{leaf::At, raw::RawHeaderEdits, types::HeaderEdits},
    Checker,
};
use crate::http_head::{is_of_the_connection, is_token};

const MAX_EDITS: usize = 64;

const MAX_VALUE_BYTES: usize = 4096;

impl Checker<'_> {
    pub(super) fn header_edits(&mut self, raw: &RawHeaderEdits) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        let mut seen = BTreeSet::new();
        for (index, (name, value)) in raw.set.iter().enumerate() {
            let named = At { value: name.clone(), span: value.span.clone() };
            if index >= MAX_EDITS {
                self.refuse(value, format!("at most {MAX_EDITS} headers can be set"));
            } else if let Some(name) = self.header_name(&named, &mut seen)
                && let Some(mut header) = self.header_value(value)
            {
                header.set_sensitive(self.document.has_variable(&value.span) || name == AUTHORIZATION);
                edits.set.push((name, header));
            }
        }
        for (index, at) in raw.remove.iter().enumerate() {
            if index >= MAX_EDITS {
                self.refuse(at, format!("at most {MAX_EDITS} headers can be removed"));
            } else if let Some(name) = self.header_name(at, &mut seen) {
                edits.remove.push(name);
            }
        }
        edits
    }

    pub(super) fn header_name(&mut self, at: &At<String>, seen: &mut BTreeSet<String>) -> Option<HeaderName> {
        let shown = &at.value;
        let Ok(name) = shown.parse::<HeaderName>() else {
            self.refuse(at, format!("{shown:?} is not a header name (RFC 9110 section 5.1)"));
            return None;
        };
        if let Some(why) = forbidden(&name) {
            self.refuse(at, format!("{shown:?} cannot be edited: {why}"));
            return None;
        }
        if !seen.insert(name.as_str().to_owned()) {
            self.refuse(at, format!("{shown:?} is edited already; each header can be set or removed once"));
            return None;
        }
        Some(name)
    }

    /// The message never shows the value, which may be a secret.
    fn header_value(&mut self, at: &At<String>) -> Option<HeaderValue> {
        let value = HeaderValue::from_str(&at.value).ok();
        let value = value.filter(|value| value.len() <= MAX_VALUE_BYTES && at.value.trim() == at.value);
        if value.is_none() {
            self.refuse(
                at,
                format!(
                    "the value is not a header value; write at most {MAX_VALUE_BYTES} bytes without control characters \
                     and without spaces at the ends"
                ),
            );
        }
        value
    }

    pub(super) fn subprotocols(&mut self, raw: &[At<String>]) -> Vec<String> {
        self.all_differ(raw, "subprotocol");
        for at in raw.iter().filter(|at| !is_token(&at.value)) {
            self.refuse_as(at, "a subprotocol; write a token of letters, digits and !#$%&'*+-.^_`|~ (RFC 7230)");
        }
        raw.iter().map(|at| at.value.clone()).collect()
    }
}

/// Headers that the gateway itself writes, or that are about one hop alone (RFC 9110 section 7.6.1).
fn forbidden(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        text if text.starts_with("sec-websocket-") => Some("the gateway negotiates the WebSocket connection itself"),
        _ if name == HOST => Some("use host_header of the upstream"),
        _ if name == CONTENT_LENGTH || name == EXPECT => Some("an upgrade request has no body"),
        _ if is_of_the_connection(name) => Some("it is for one hop alone and the gateway writes its own"),
        _ => None,
    }
}
