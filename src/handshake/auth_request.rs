//! A service that is asked whether a client may connect: `auth_request` of a route.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rustls::ClientConfig;
use sha2::{Digest, Sha256};

use super::{forwarded::Source, refusal::Refusal, request::Requested};
use crate::{
    config::{self, AuthRequestCache},
    http_client::{Call, CallError, Direct, Request, Response},
    route::Route,
};

/// A refusal's body is a sentence or a page.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Answers that one worker keeps; a further one is not kept.
const MAX_ANSWERS: usize = 10_000;

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// Of a refusal, what its client needs to make a better request or to show why.
const PASSED_ON: [HeaderName; 3] = [header::WWW_AUTHENTICATE, header::CONTENT_TYPE, header::CACHE_CONTROL];

/// The way to services of one worker, and what they said of late.
pub(super) struct AuthRequests {
    client: Direct,
    answers: RefCell<HashMap<[u8; 32], (Instant, Answer)>>,
}

/// What a service decided.
#[derive(Clone, Debug)]
enum Answer {
    /// These headers travel on.
    Allowed(Vec<(HeaderName, HeaderValue)>),
    Refused(Refusal),
}

impl AuthRequests {
    /// Trusts what this says.
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { client: Direct::new(tls), answers: RefCell::default() }
    }

    /// Asks the service of the route, if it has one, and puts what it said into `headers`.
    pub(super) async fn ask(
        &self,
        route: &Route,
        source: &Source,
        (method, requested): (&Method, &Requested),
        headers: &mut HeaderMap,
    ) -> Result<(), Refusal> {
        let Some(service) = &route.auth_request else { return Ok(()) };
        let kept = service.cache.as_ref().and_then(|cache| Some((key(route, cache, headers)?, cache.lasts)));
        let known = kept.and_then(|(key, _)| self.known(&key));
        route.metrics.auth_request(if known.is_some() { "cached" } else { "asked" });
        let answer = match known {
            Some(answer) => answer,
            None => {
                let answer = self.fetch(route, service, source, (method, requested), headers).await?;
                if let Some((key, lasts)) = kept {
                    self.keep(key, lasts, answer.clone());
                }
                answer
            }
        };
        // Only the service may say who the client is, also by saying nothing.
        for name in &service.copy_headers {
            headers.remove(name);
        }
        match answer {
            Answer::Allowed(given) => {
                for (name, value) in given {
                    headers.append(name, value);
                }
                Ok(())
            }
            Answer::Refused(refusal) => Err(refusal),
        }
    }

    async fn fetch(
        &self,
        route: &Route,
        service: &config::AuthRequest,
        source: &Source,
        asked: (&Method, &Requested),
        headers: &HeaderMap,
    ) -> Result<Answer, Refusal> {
        let request = request(service, source, asked, headers).map_err(|error| {
            tracing::debug!(route = route.name, %error, "a request cannot be shown to the service of auth_request");
            Refusal::bad_request("the request's headers are too many or too large")
        })?;
        let response = self.client.send(&request, service.timeout, MAX_BODY_BYTES).await.map_err(|error| {
            tracing::warn!(route = route.name, url = service.url, %error, "the service of auth_request did not answer");
            Refusal::unavailable()
        })?;
        answer(service, response).ok_or_else(|| {
            tracing::warn!(
                route = route.name,
                url = service.url,
                "the service of auth_request answered neither yes nor no"
            );
            Refusal::unavailable()
        })
    }

    fn known(&self, key: &[u8; 32]) -> Option<Answer> {
        let answers = self.answers.borrow();
        let (until, answer) = answers.get(key)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    fn keep(&self, key: [u8; 32], lasts: Duration, answer: Answer) {
        let now = Instant::now();
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, (until, _)| *until > now);
        }
        if answers.len() < MAX_ANSWERS {
            answers.insert(key, (now + lasts, answer));
        }
    }
}

/// The client's headers, and what it asked for as forward authentication names it.
fn request(
    service: &config::AuthRequest,
    source: &Source,
    (method, requested): (&Method, &Requested),
    headers: &HeaderMap,
) -> Result<Request, CallError> {
    let mut shown = headers.clone();
    source.set(&mut shown, requested);
    shown.remove(header::HOST);
    let uri = match &requested.query {
        Some(query) => format!("{}?{query}", requested.path),
        None => requested.path.clone(),
    };
    // Both came in a request line, so they are visible ASCII.
    if let Ok(method) = HeaderValue::try_from(method.as_str()) {
        shown.insert(X_FORWARDED_METHOD, method);
    }
    if let Ok(uri) = HeaderValue::try_from(uri) {
        shown.insert(X_FORWARDED_URI, uri);
    }
    let headers = shown.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    Request::check(Call { method: "GET".to_owned(), url: service.url.clone(), headers, body: Vec::new() })
}

/// None for what is neither yes nor no.
fn answer(service: &config::AuthRequest, response: Response) -> Option<Answer> {
    let status = StatusCode::from_u16(response.status).ok()?;
    let given = |wanted: &[HeaderName]| {
        let named = response.headers.iter().filter_map(|(name, value)| {
            let name = wanted.iter().find(|wanted| wanted.as_str() == name)?;
            Some((name.clone(), HeaderValue::from_bytes(value).ok()?))
        });
        named.collect::<Vec<_>>()
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Some(Answer::Refused(Refusal::of_service(status, given(&PASSED_ON), response.body)))
        }
        status if status.is_success() => Some(Answer::Allowed(given(&service.copy_headers))),
        _ => None,
    }
}

/// Whose answer counts for this request too; none where it has none of the headers.
fn key(route: &Route, cache: &AuthRequestCache, headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(route.name.as_bytes());
    let mut any = false;
    for name in &cache.by {
        part(name.as_str().as_bytes());
        for value in headers.get_all(name) {
            any = true;
            part(value.as_bytes());
        }
    }
    any.then(|| hash.finalize().into())
}
