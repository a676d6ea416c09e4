//! How an opening request is answered when not with 101: a status and a short problem body (RFC 9457).

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::{
    filter::{NotAdmitted, Reason},
    http_head::{is_of_the_connection, problem_json},
    limit::Limit,
    upstream::{Answer, DialError},
};

/// `Retry-After` is drawn from this, so that those who were refused together do not come back together.
const RETRY_AFTER_SECONDS: RangeInclusive<u32> = 2..=10;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

const DESCRIBE_A_BODY: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];

/// How an opening request ended: the label `result` of `handshakes_total`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HandshakeResult {
    /// 101.
    Switched,
    /// 400: malformed, or ambiguous between two servers.
    BadRequest,
    /// 426: not a WebSocket handshake of version 13.
    UpgradeRequired,
    /// 401: no token, or none that counts.
    Unauthorized,
    /// 403: the token grants too little.
    Forbidden,
    /// 403: a page of another origin.
    OriginRefused,
    /// 404: no route.
    NotFound,
    /// 405: a method that is not for such a route.
    MethodNotAllowed,
    /// 413: a body beyond `http_max_body`.
    TooLarge,
    /// 501: a coding of the body that the gateway would have to undo.
    NotImplemented,
    /// 408: `handshake_timeout` passed before anything else was to blame.
    Timeout,
    /// 429: a limit of the client's own.
    Limited,
    /// 503: a limit of the gateway, or draining.
    Unavailable,
    /// 500: a fault of the gateway.
    Internal,
    /// The status that a filter chose.
    FilterRefused,
    /// 500: a filter failed under `fail_closed`.
    FilterFault,
    /// 502: no endpoint could be reached, or it broke off.
    UpstreamRefused,
    /// 502: an answer of 101 that RFC 6455 does not allow.
    UpstreamBadUpgrade,
    /// 503: no endpoint is healthy.
    UpstreamUnhealthy,
    /// 504: no answer in time.
    UpstreamTimeout,
    /// The upstream's own status.
    UpstreamAnswered,
    /// The client left before its answer.
    ClientGone,
}

impl HandshakeResult {
    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::BadRequest => "bad_request",
            Self::UpgradeRequired => "upgrade_required",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::OriginRefused => "origin_refused",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::NotImplemented => "not_implemented",
            Self::Timeout => "timeout",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::FilterRefused => "filter_refused",
            Self::FilterFault => "filter_fault",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamBadUpgrade => "upstream_bad_upgrade",
            Self::UpstreamUnhealthy => "upstream_unhealthy",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamAnswered => "upstream_answered",
            Self::ClientGone => "client_gone",
        }
    }
}

/// An answer other than 101. What went wrong inside is for the log, not for the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// For metrics and logs.
    pub result: HandshakeResult,
    /// Why a filter refused, if it has said so; for logs.
    pub filter_reason: Option<Reason>,
    /// Of the answer.
    pub status: StatusCode,
    /// Of the answer, beside those that every refusal has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the answer.
    pub body: RefusalBody,
}

/// The body of a [`Refusal`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RefusalBody {
    /// A problem document of the gateway, with a sentence that is safe to show.
    Problem(Option<&'static str>),
    /// What a filter or an upstream answered; its type is among the headers.
    Foreign(Bytes),
}

impl Refusal {
    fn problem(result: HandshakeResult, status: StatusCode, detail: Option<&'static str>) -> Self {
        Self { result, filter_reason: None, status, headers: Vec::new(), body: RefusalBody::Problem(detail) }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(detail: &'static str) -> Self {
        Self::problem(HandshakeResult::BadRequest, StatusCode::BAD_REQUEST, Some(detail))
    }

    /// 426 for a request that asks for no upgrade.
    #[must_use]
    pub fn upgrade_required() -> Self {
        Self::websocket_13("this is a WebSocket endpoint")
    }

    /// 426 for another version than 13 (RFC 6455 section 4.4).
    #[must_use]
    pub fn version_required() -> Self {
        Self::websocket_13("Sec-WebSocket-Version must be 13")
    }

    fn websocket_13(detail: &'static str) -> Self {
        let status = StatusCode::UPGRADE_REQUIRED;
        let mut refusal = Self::problem(HandshakeResult::UpgradeRequired, status, Some(detail));
        refusal.headers = vec![
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        ];
        refusal
    }

    /// 401 (RFC 6750 section 3). Why is for the log alone.
    #[must_use]
    pub fn unauthorized() -> Self {
        let mut refusal = Self::problem(HandshakeResult::Unauthorized, StatusCode::UNAUTHORIZED, None);
        refusal.headers = vec![(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
        refusal
    }

    /// 403: the token is genuine, and not enough.
    #[must_use]
    pub fn insufficient_scope() -> Self {
        let mut refusal = Self::problem(HandshakeResult::Forbidden, StatusCode::FORBIDDEN, None);
        let challenge = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
        refusal.headers = vec![(header::WWW_AUTHENTICATE, challenge)];
        refusal
    }

    /// 403: the page that asks may not.
    #[must_use]
    pub fn origin() -> Self {
        Self::problem(HandshakeResult::OriginRefused, StatusCode::FORBIDDEN, None)
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::problem(HandshakeResult::NotFound, StatusCode::NOT_FOUND, None)
    }

    /// 405, with what is allowed.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let mut refusal = Self::problem(HandshakeResult::MethodNotAllowed, StatusCode::METHOD_NOT_ALLOWED, None);
        refusal.headers = vec![(header::ALLOW, HeaderValue::from_static(allow))];
        refusal
    }

    /// 413.
    #[must_use]
    pub fn too_large() -> Self {
        Self::problem(HandshakeResult::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, None)
    }

    /// 501 (RFC 9112 section 6.1).
    #[must_use]
    pub fn transfer_coding() -> Self {
        let detail = "no Transfer-Encoding but chunked is understood";
        Self::problem(HandshakeResult::NotImplemented, StatusCode::NOT_IMPLEMENTED, Some(detail))
    }

    /// 502: an answer that cannot be passed on.
    #[must_use]
    pub fn bad_answer() -> Self {
        Self::problem(HandshakeResult::UpstreamRefused, StatusCode::BAD_GATEWAY, None)
    }

    /// Nobody reads it.
    #[must_use]
    pub fn client_gone() -> Self {
        Self::problem(HandshakeResult::ClientGone, StatusCode::BAD_REQUEST, None)
    }

    /// 408.
    #[must_use]
    pub fn timeout() -> Self {
        Self::problem(HandshakeResult::Timeout, StatusCode::REQUEST_TIMEOUT, None)
    }

    /// 429.
    #[must_use]
    pub fn limited() -> Self {
        Self::problem(HandshakeResult::Limited, StatusCode::TOO_MANY_REQUESTS, None)
    }

    /// 429 for so long, which is rounded up and stretched by up to a quarter: whoever was refused with others does not come
    /// back with them.
    fn limited_for(time: Duration) -> Self {
        let seconds = time.as_secs() + 1;
        let mut refusal = Self::limited();
        refusal.headers = vec![(header::RETRY_AFTER, rand::random_range(seconds..=seconds + seconds / 4 + 1).into())];
        refusal
    }

    /// 503.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::problem(HandshakeResult::Unavailable, StatusCode::SERVICE_UNAVAILABLE, None)
    }

    /// 500.
    #[must_use]
    pub fn internal() -> Self {
        Self::problem(HandshakeResult::Internal, StatusCode::INTERNAL_SERVER_ERROR, None)
    }

    /// A filter's answer: its body where it has one, a problem document where not.
    fn of_filter(status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Self {
        let mut refusal = Self::problem(HandshakeResult::FilterRefused, status, None);
        refusal.headers = headers.into_iter().filter(|(name, _)| !is_of_the_connection(name)).collect();
        if !body.is_empty() {
            refusal.body = RefusalBody::Foreign(body.into());
        }
        refusal
    }

    /// 401 or 403, as the service of `auth_request` gave it.
    pub(super) fn of_service(status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Self {
        let result = match status {
            StatusCode::UNAUTHORIZED => HandshakeResult::Unauthorized,
            _ => HandshakeResult::Forbidden,
        };
        let mut refusal = Self::problem(result, status, None);
        let has_body = !body.is_empty();
        refusal.headers = headers.into_iter().filter(|(name, _)| has_body || !DESCRIBE_A_BODY.contains(name)).collect();
        if has_body {
            refusal.body = RefusalBody::Foreign(body.into());
        }
        refusal
    }

    /// An upstream's answer, as far as it is safe to pass on.
    fn of_upstream(answer: Answer) -> Self {
        let mut refusal = Self::problem(HandshakeResult::UpstreamAnswered, answer.status, None);
        let has_body = answer.body.is_some();
        for (name, value) in &answer.headers {
            if has_body || !DESCRIBE_A_BODY.contains(name) {
                refusal.headers.push((name.clone(), value.clone()));
            }
        }
        if let Some(body) = answer.body {
            refusal.body = RefusalBody::Foreign(body);
        }
        refusal
    }

    /// The HTTP response. It ends the connection: whatever follows a refused request is not read.
    #[must_use]
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        let body = match self.body {
            RefusalBody::Foreign(body) => body,
            RefusalBody::Problem(detail) => {
                headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
                problem_json(self.status, detail)
            }
        };
        let retry = self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS;
        if retry && !headers.contains_key(header::RETRY_AFTER) {
            headers.insert(header::RETRY_AFTER, rand::random_range(RETRY_AFTER_SECONDS).into());
        }
        // RFC 9110 section 7.8: a server that sends Upgrade names it in Connection.
        let connection = if headers.contains_key(header::UPGRADE) { "close, upgrade" } else { "close" };
        headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Answered(answer) => Self::of_upstream(*answer),
            DialError::Timeout { .. } => {
                Self::problem(HandshakeResult::UpstreamTimeout, StatusCode::GATEWAY_TIMEOUT, None)
            }
            DialError::NoneHealthy { .. } => {
                Self::problem(HandshakeResult::UpstreamUnhealthy, StatusCode::SERVICE_UNAVAILABLE, None)
            }
            DialError::BadUpgrade { .. } => {
                Self::problem(HandshakeResult::UpstreamBadUpgrade, StatusCode::BAD_GATEWAY, None)
            }
            DialError::Connect { .. } | DialError::Http { .. } => {
                Self::problem(HandshakeResult::UpstreamRefused, StatusCode::BAD_GATEWAY, None)
            }
            DialError::Unknown { .. } | DialError::Request { .. } => Self::internal(),
        }
    }
}

/// 429 for a limit of the client's own, else 503.
impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Self {
        match limit.is_of_the_client() {
            true => Self::limited(),
            false => Self::unavailable(),
        }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Refused { filter: _, status, headers, body } => Self::of_filter(status, headers, body),
            NotAdmitted::Fault { filter: _ } => {
                Self::problem(HandshakeResult::FilterFault, StatusCode::INTERNAL_SERVER_ERROR, None)
            }
            NotAdmitted::Closed { filter: _ } | NotAdmitted::Capacity { filter: _ } => Self::unavailable(),
            NotAdmitted::Client { filter: _, retry_after } => Self::limited_for(retry_after),
        }
    }
}

#[cfg(test)]
mod tests;
