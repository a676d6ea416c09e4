//! Where a request carries its token, and the request without it.

use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use http::{HeaderMap, HeaderValue, header};

use crate::config::TokenSource;

/// The subprotocol that announces a token as the next one.
const BEARER: &str = "bearer";
/// Kubernetes' form: the token, in base64url, behind this.
const KUBERNETES: &str = "base64url.bearer.authorization.k8s.io.";

/// What a request carries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// One token.
    Token(String),
    /// None.
    Missing,
    /// Two of them in one place: two servers could take different ones.
    Ambiguous,
}

/// The first token, looked for in these places in this order.
#[must_use]
pub fn find(from: &[TokenSource], headers: &HeaderMap, query: Option<&str>, subprotocols: &[String]) -> Credentials {
    for source in from {
        let mut found = match source {
            TokenSource::Header => in_header(headers),
            TokenSource::Subprotocol => in_subprotocols(subprotocols),
            TokenSource::Cookie(name) => in_cookies(headers, name),
            TokenSource::Query(name) => in_query(query.unwrap_or_default(), name),
        };
        match (found.pop(), found.pop()) {
            (None, _) => {}
            (Some(token), None) => return Credentials::Token(token),
            (Some(_), Some(_)) => return Credentials::Ambiguous,
        }
    }
    Credentials::Missing
}

/// Takes tokens out of places that servers write to logs or pass on: query, cookies, subprotocols. Answers whether the
/// client offered [`BEARER`], which then may be answered.
pub fn without_tokens(
    from: &[TokenSource],
    headers: &mut HeaderMap,
    query: &mut Option<String>,
    subprotocols: &mut Vec<String>,
) -> bool {
    let mut bearer = false;
    for source in from {
        match source {
            TokenSource::Header => {}
            TokenSource::Subprotocol => {
                if let Some(at) = subprotocols.iter().position(|name| name == BEARER) {
                    bearer = true;
                    subprotocols.drain(at..(at + 2).min(subprotocols.len()));
                }
                subprotocols.retain(|name| !name.starts_with(KUBERNETES));
            }
            TokenSource::Cookie(name) => remove_cookie(headers, name),
            TokenSource::Query(name) => {
                let kept: Vec<_> =
                    query.iter().flat_map(|query| query.split('&')).filter(|pair| key(pair) != name).collect();
                *query = (!kept.is_empty()).then(|| kept.join("&"));
            }
        }
    }
    bearer
}

/// `Authorization: Bearer …` (RFC 6750 section 2.1).
fn in_header(headers: &HeaderMap) -> Vec<String> {
    let token = |value: &HeaderValue| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    };
    headers.get_all(header::AUTHORIZATION).iter().filter_map(token).collect()
}

fn in_subprotocols(offered: &[String]) -> Vec<String> {
    let announced = offered.iter().position(|name| name == BEARER).and_then(|at| offered.get(at + 1)).cloned();
    let kubernetes = offered.iter().filter_map(|name| name.strip_prefix(KUBERNETES)).filter_map(|encoded| {
        let encoded = encoded.as_bytes();
        let token = BASE64URL_NOPAD.decode(encoded).or_else(|_| BASE64URL.decode(encoded)).ok()?;
        String::from_utf8(token).ok()
    });
    announced.into_iter().chain(kubernetes).collect()
}

fn in_cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.trim_matches('"').to_owned()).collect()
}

/// A token has no character that a query would have to encode.
fn in_query(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).collect()
}

fn key(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(key, _)| key)
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let values: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for value in values {
        // What is not text holds no token that was looked at.
        let Ok(text) = value.to_str() else {
            headers.append(header::COOKIE, value);
            continue;
        };
        let kept: Vec<_> = text.split(';').map(str::trim).filter(|pair| key(pair) != name).collect();
        if let Ok(value) = HeaderValue::try_from(kept.join("; "))
            && !kept.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}
