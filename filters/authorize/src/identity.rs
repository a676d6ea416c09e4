//! Conditions on who the client is.

use filter_parts::json::{Document, Json, MAX_DEPTH, Names};
use filter_parts::{Matcher, Verified, When};
use serde::Deserialize;
use wsgate_sdk::Identity;

/// Who the client is now.
#[derive(Debug)]
pub(crate) struct Client {
    identity: Option<Identity>,
    /// All claims of the token; an empty object for a client without one.
    claims: Document,
}

impl Client {
    pub(crate) fn new(identity: Option<Identity>) -> Self {
        let claims = identity.as_ref().map_or("{}", |identity| &identity.claims);
        let none = || Document::empty_object();
        Self { claims: Document::check(claims.to_owned(), MAX_DEPTH).unwrap_or_else(|_| none()), identity }
    }

    pub(crate) fn claims(&self) -> Json<'_> {
        self.claims.json()
    }
}

/// Conditions that have to hold together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Who {
    /// Whether there is an identity at all.
    present: Option<bool>,
    subject: Option<Matcher>,
    issuer: Option<Matcher>,
    /// All of them.
    #[serde(default)]
    scopes: Vec<String>,
    /// One of them.
    #[serde(default)]
    any_scope: Vec<String>,
    /// Of a claim that is a list one element is enough.
    #[serde(default)]
    claims: When,
}

impl Who {
    pub(crate) fn holds(&self, client: &Client) -> bool {
        let identity = client.identity.as_ref();
        let has = |scope: &String| identity.is_some_and(|identity| identity.has_scope(scope));
        let subject = identity.and_then(|identity| identity.subject.as_deref());
        let issuer = identity.and_then(|identity| identity.issuer.as_deref());
        self.present.is_none_or(|present| present == identity.is_some())
            && takes(self.subject.as_ref(), subject)
            && takes(self.issuer.as_ref(), issuer)
            && self.scopes.iter().all(has)
            && (self.any_scope.is_empty() || self.any_scope.iter().any(has))
            && self.claims.verify_in_lists(client.claims(), Names::Exact) == Verified::Yes
    }
}

/// Whether a condition, where there is one, takes a text that may not be there.
pub(crate) fn takes(matcher: Option<&Matcher>, text: Option<&str>) -> bool {
    match (matcher, text) {
        (None, _) => true,
        (Some(matcher), Some(text)) => matcher.takes_text(text),
        (Some(matcher), None) => matcher.takes_absence(),
    }
}
