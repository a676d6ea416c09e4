//! Who the client is, and what the upstream is told of it.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{refusal::Refusal, request::Requested};
use crate::{
    auth::{Authenticator, Credentials, NotVerified, find, without_tokens},
    identity::Identity,
    route::Route,
};

/// The longest header that is made from a claim.
const MAX_CLAIM_BYTES: usize = 4096;

/// Whose token the request carries, and whether `bearer` was offered with it. In places that are logged or passed on the token leaves the request here, before
/// anybody else sees it.
pub(super) async fn authenticate(
    authenticator: &Authenticator,
    requested: &mut Requested,
    subprotocols: &mut Vec<String>,
    headers: &mut HeaderMap,
) -> Result<(Identity, bool), Refusal> {
    let from = authenticator.from();
    let found = find(from, headers, requested.query.as_deref(), subprotocols);
    let offers_bearer = without_tokens(from, headers, &mut requested.query, subprotocols);
    let verified = match found {
        Credentials::Token(token) => authenticator.verify(&token).await.map_err(|why| {
            tracing::info!(reason = %why, "a token is refused");
            if why == NotVerified::Revoked {
                authenticator.revocations().metrics().handshakes.inc();
            }
            match why {
                NotVerified::Scope => Refusal::insufficient_scope(),
                NotVerified::NoKeys => Refusal::unavailable(),
                NotVerified::Malformed
                | NotVerified::Algorithm
                | NotVerified::Header
                | NotVerified::UnknownKey
                | NotVerified::Signature
                | NotVerified::Expired
                | NotVerified::NotYet
                | NotVerified::Issuer
                | NotVerified::Audience
                | NotVerified::Claim
                | NotVerified::Revoked => Refusal::unauthorized(),
            }
        }),
        // Two servers could take different ones of several tokens.
        Credentials::Missing | Credentials::Ambiguous => Err(Refusal::unauthorized()),
    };
    Ok((verified?, offers_bearer))
}

/// Puts claims where the route wants them. What the client sent under these names is gone, also where it has no such
/// claim.
pub(super) fn set_claims(headers: &mut HeaderMap, route: &Route, identity: &Identity) {
    if route.claims_to_headers.is_empty() {
        return;
    }
    // Verified claims are an object.
    let claims: Map<String, Value> = serde_json::from_str(&identity.claims).unwrap_or_default();
    for (name, claim) in &route.claims_to_headers {
        headers.remove(name);
        if let Some(value) = claims.get(claim).and_then(|claim| header_value(name, claim)) {
            headers.insert(name, value);
        }
    }
}

/// Texts as they are, lists of texts with commas, anything else as JSON.
fn header_value(name: &HeaderName, claim: &Value) -> Option<HeaderValue> {
    let texts =
        |list: &Vec<Value>| list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(list) => texts(list).map_or_else(|| claim.to_string(), |texts| texts.join(",")),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => claim.to_string(),
    };
    let value = HeaderValue::try_from(text).ok().filter(|value| value.len() <= MAX_CLAIM_BYTES);
    if value.is_none() {
        tracing::warn!(header = %name, "a claim does not fit into a header and is left out");
    }
    value
}
