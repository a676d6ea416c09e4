//! HTTP requests that open no WebSocket: `http = "forward"`, and files. They pass what openings pass, in the same order; then they
//! and their answers are relayed as they come, and nothing is held whole.
//!
//! In reading order: one request on its way; what is written down of it; its body; its headers; the exchange with the
//! upstream; the answer's body, which owns what the request holds; files.

mod record;
mod upload;
mod headers;
mod exchange;
mod lifetime;
mod download;
mod file;

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Request, Response, header, request::Parts};
use hyper::body::{Body, Incoming};
use thiserror::Error;

pub(super) use self::exchange::IdleUpstreams;
pub(super) use self::{download::Download, file::FileBody};
use self::{
    exchange::{Ask, Exchange},
    lifetime::Lifetime,
    record::Record,
    upload::Upload,
};
use super::{
    Handshake,
    answer::AnswerBody,
    client::Framing,
    headers::{content_length, end_to_end, for_filters, to_upstream},
    origin,
    refusal::Refusal,
    request::{Opening, Requested},
    standing::{self, Entered, Standing},
    steps::{Asking, HeldChain, connection_id},
};
use crate::{
    config::{HttpFilters, HttpForward, Target},
    filter::Admission,
    route::Matched,
    session::{Bearer, Entry},
};

/// The method, as filters see it: openings have none.
const METHOD: &str = ":method";

/// Why the body of an answer ended before its end.
#[derive(Clone, Copy, Debug, Error)]
#[error("the answer was broken off")]
pub(super) struct BrokenOff;

/// What a request holds until its answer is over.
struct Held {
    chain: HeldChain,
    /// A drain waits for it, and a reload may end it.
    entry: Entry,
    _standing: Entered,
}

impl<H: 'static> Handshake<H> {
    /// The route, where it answers such a request.
    pub(super) fn find_plain(&self, parts: &Parts) -> Option<(Requested, Matched)> {
        if Opening::is_asked_for(&parts.headers) {
            return None;
        }
        let requested = Requested::check(parts).ok()?;
        let matched = self.current.routes.find(&requested.host, &requested.path)?;
        matched.route.answers_plain_http().then_some((requested, matched))
    }

    pub(super) async fn answer_plain(
        self,
        requested: Requested,
        matched: Matched,
        request: (Parts, Incoming),
        framing: Framing,
    ) -> Response<AnswerBody> {
        let (id, method) = (connection_id(), request.0.method.clone());
        let record = Record::new(id, &matched.route, &self.source, method, &requested.path, self.started);
        self.wire.progress.set_timeout(matched.route.limits.send_timeout);
        let mut response = match self.plain(requested, matched, request, framing, &record).await {
            Ok(response) => response,
            Err(refusal) => {
                record.refused(&refusal);
                refusal.into_response().map(AnswerBody::from)
            }
        };
        record.answered(response.status());
        // Whoever comes again is to come to another gateway. And where the next request begins is known only to hyper if
        // this one had chunks.
        if framing.last || *self.context.draining.borrow() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn plain(
        &self,
        mut requested: Requested,
        matched: Matched,
        (parts, body): (Parts, Incoming),
        framing: Framing,
        record: &Rc<Record>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let route = Arc::clone(&matched.route);
        let mut places = self.admit_client(&route)?;
        framing.check()?;
        headers::check_coding(&parts.headers)?;
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            return Err(Refusal::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        let asked = self.source.asked(&requested);
        let origin = origin::of_plain(&parts.method, &parts.headers);
        if origin.as_ref().is_some_and(|origin| !origin.is_taken(&route.allowed_origins, asked)) {
            return Err(Refusal::origin());
        }
        let mut kept = end_to_end(&parts.headers);
        self.source.strip(&mut kept);
        let (bearer, _) = self.identify(&route, &mut requested, &mut Vec::new(), &mut kept).await?;
        if let Some(bearer) = &bearer {
            route.limiter.enter_user(&bearer.identity, self.source.client.ip(), &mut places)?;
        }
        let deadline = self.started + route.limits.handshake_timeout;
        let asked = (&parts.method, &requested);
        let asked = self.current.auth_requests.ask(&route, &self.source, asked, &mut kept);
        tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Refusal::timeout()))?;
        let standing = Standing::new(&matched, &requested, origin, self, places);
        let entry = self.context.sessions.enter();
        let standing = standing::enter(&self.context, &self.current, standing, entry.remote(), bearer.as_ref());
        let held = Held { chain: HeldChain::default(), entry, _standing: standing };
        match (&route.target, route.http) {
            (Target::Upstream(name), Some(http)) => {
                let forwarding = Forwarding { upstream: name, http, requested, matched: &matched, kept, bearer, held };
                self.forward(forwarding, (parts, body), record).await
            }
            (Target::Static(folder), _) => file::answer(folder, &requested, &matched, parts, (record, held)).await,
            (Target::Upstream(_), None) | (Target::Echo | Target::Filters, _) => Err(Refusal::not_found()),
        }
    }

    async fn forward(
        &self,
        forwarding: Forwarding<'_>,
        (parts, body): (Parts, Incoming),
        record: &Rc<Record>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let Forwarding { upstream, http, requested, matched, mut kept, bearer, mut held } = forwarding;
        let route = &matched.route;
        if http.max_body_bytes.is_some_and(|most| content_length(&parts.headers) > most as u64) {
            return Err(Refusal::too_large());
        }
        let deadline = self.started + route.limits.handshake_timeout;
        let mut admission = Admission::default();
        if http.filters == HttpFilters::Open {
            let identity = bearer.as_ref().map(|bearer| Rc::clone(&bearer.identity));
            let mut headers = for_filters(&kept, identity.is_some());
            headers.insert(0, (METHOD.to_owned(), parts.method.as_str().into()));
            let asking = Asking { id: record.id(), requested: &requested, headers, subprotocols: &[] };
            (held.chain, admission) = self.admit(asking, matched, identity, deadline).await?;
        }
        let client = self.client(&parts.headers, bearer.as_ref());
        self.source.set(&mut kept, &requested);
        let mut to_send = to_upstream(&kept, &route.request_headers, &admission.upstream_headers);
        headers::frame_request(&parts.headers, route, &admission.upstream_headers, &mut to_send);
        let mut request = Request::new(Upload::new(body, &http, record));
        *request.method_mut() = parts.method;
        *request.headers_mut() = to_send;
        let exchange = Exchange {
            upstreams: &self.current.upstreams,
            idle: &self.current.idle,
            upstream: admission.upstream.as_deref().unwrap_or(upstream),
            path_and_query: matched.upstream_path_and_query(&requested.path, requested.query.as_deref()),
            client_host: &requested.authority,
            sets_host: request.headers().contains_key(header::HOST),
            client: &client,
            response_timeout: http.response_timeout,
            send_timeout: route.limits.send_timeout,
            deadline,
        };
        let Ask { response, place, kept, affinity_cookie } = exchange.ask(request, record).await?;
        let (head, body) = response.into_parts();
        let mut headers = headers::to_client(&head, body.size_hint().exact().is_none(), &admission.client_headers)?;
        if let Some(cookie) = affinity_cookie {
            headers.append(header::SET_COOKIE, cookie);
        }
        let lifetime = Lifetime::new(&route.limits, bearer, self.started);
        let back = (Rc::clone(&self.current.idle), place, kept);
        let body = Download::new(body, Rc::clone(record), lifetime, back, held);
        let mut response = Response::new(AnswerBody::Relayed(Box::new(body)));
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A request that was admitted, on its way to the upstream.
struct Forwarding<'a> {
    upstream: &'a str,
    http: HttpForward,
    requested: Requested,
    matched: &'a Matched,
    kept: HeaderMap,
    bearer: Option<Bearer>,
    held: Held,
}
