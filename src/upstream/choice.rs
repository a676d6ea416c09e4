//! What an endpoint is chosen by, beside the state of the endpoints: whose request it is, and what it carries.

use std::{net::IpAddr, rc::Rc, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    config::{AffinityCookie, HashOn},
    identity::Identity,
};

/// Whose request it is.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Where it comes from; of the client, not of a proxy before the gateway.
    pub address: Option<IpAddr>,
    /// Its `Cookie` headers, as it sent them.
    pub cookies: Vec<HeaderValue>,
    /// What its token says.
    pub identity: Option<Rc<Identity>>,
    /// Did it come by TLS?
    pub secure: bool,
}

impl Client {
    /// The `Cookie` headers of a request.
    #[must_use]
    pub fn cookies_of(headers: &HeaderMap) -> Vec<HeaderValue> {
        headers.get_all(header::COOKIE).iter().cloned().collect()
    }

    /// The value of the first cookie of this name (RFC 6265 section 4.2.1).
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let pairs = self.cookies.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        let mut values = pairs.filter_map(|pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            (&pair[..equals] == name.as_bytes()).then_some(&pair[equals + 1..])
        });
        values.next()
    }
}

/// What an endpoint is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceInput<'a> {
    /// Whose request it is.
    pub client: &'a Client,
    /// The request's headers as the upstream gets them: what a route or a filter made of them counts.
    pub headers: &'a HeaderMap,
    /// The request's query, without the `?`.
    pub query: Option<&'a str>,
}

impl ChoiceInput<'_> {
    /// The place on the ring, from the value that is hashed; `None` where the request has no such value.
    pub(super) fn hash(&self, on: &HashOn) -> Option<u64> {
        let hash = |bytes: &[u8]| Some(stable_hash(&[bytes])).filter(|_| !bytes.is_empty());
        match on {
            HashOn::ClientIp => hash(self.client.address?.to_canonical().to_string().as_bytes()),
            HashOn::Header(name) => hash(self.headers.get(name)?.as_bytes()),
            HashOn::Query(name) => {
                let mut pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                hash(pairs.find(|(key, _)| key == name)?.1.as_bytes())
            }
            HashOn::Cookie(name) => hash(self.client.cookie(name)?),
            HashOn::Claim(name) => {
                // Verified claims are an object.
                let claims: Map<String, Value> =
                    serde_json::from_str(&self.client.identity.as_ref()?.claims).unwrap_or_default();
                match claims.get(name)? {
                    Value::Null => None,
                    Value::String(text) => hash(text.as_bytes()),
                    other => hash(other.to_string().as_bytes()),
                }
            }
        }
    }

    /// What the client's affinity cookie says.
    pub(super) fn affinity(&self, cookie: &AffinityCookie) -> Option<&[u8]> {
        self.client.cookie(&cookie.name)
    }
}

/// The same in every process and version: gateways beside each other agree, and a restart moves nobody.
pub(super) fn stable_hash(parts: &[&[u8]]) -> u64 {
    let digest = digest(parts);
    let (first, _) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first)
}

/// The value of the affinity cookie for an endpoint. It tells clients nothing but which of them share one.
pub(super) fn affinity_value(upstream: &str, label: &str) -> String {
    BASE64URL_NOPAD.encode(&digest(&[b"wsgate affinity", upstream.as_bytes(), label.as_bytes()])[..12])
}

/// `Set-Cookie` (RFC 6265 section 4.1). `Lax`: pages of other sites start no session of the browser's user.
pub(super) fn set_cookie(cookie: &AffinityCookie, value: &str, secure: bool) -> Option<HeaderValue> {
    let max_age = cookie.max_age.as_ref().map(Duration::as_secs).map(|age| format!("; Max-Age={age}"));
    let secure = if secure { "; Secure" } else { "" };
    let (name, max_age) = (&cookie.name, max_age.unwrap_or_default());
    HeaderValue::try_from(format!("{name}={value}; Path=/{max_age}; HttpOnly; SameSite=Lax{secure}")).ok()
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
