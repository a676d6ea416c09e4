//! The JSON bodies of orders.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem;

/// From the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a JSON body. The media type is asked for because the form of another site's page cannot have it: a page that
/// wants to send it has to ask first, and is not answered.
pub(super) async fn body<T: DeserializeOwned, B: Body<Error: std::error::Error + Send + Sync + 'static>>(
    request: Request<B>,
    max_bytes: usize,
) -> Result<T, Response<Full<Bytes>>> {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        let detail = "send a JSON body with Content-Type: application/json";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(detail)));
    }
    let body = Limited::new(request.into_body(), max_bytes);
    let bytes = match timeout(BODY_TIMEOUT, std::pin::pin!(body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("a body of at most {max_bytes} bytes is read");
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, Some(&detail)));
        }
        Ok(Err(_)) => return Err(problem(StatusCode::BAD_REQUEST, Some("the body broke off"))),
        Err(_) => return Err(problem(StatusCode::REQUEST_TIMEOUT, None)),
    };
    // Nothing at all is as good as an empty object.
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        let detail = format!("the body is not as expected: {error}");
        problem(StatusCode::BAD_REQUEST, Some(&detail))
    })
}
