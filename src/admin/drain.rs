//! Taking the gateway out of service and back.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;

use super::{Api, body::body, filters::Nothing, json, problem};

/// The request says everything with its path.
const MAX_BODY_BYTES: usize = 64;

impl Api {
    /// `GET` tells, `POST` starts, `DELETE` takes back; each is answered with how far it is.
    pub(super) async fn drain<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        let drain = &self.state.drain;
        if *request.method() == Method::POST {
            if let Err(refused) = body::<Nothing, B>(request, MAX_BODY_BYTES).await {
                return refused;
            }
            tracing::info!("an order to drain");
            drain.start();
        } else if *request.method() == Method::DELETE
            && let Err(leaving) = drain.call_off()
        {
            return problem(StatusCode::CONFLICT, Some(&leaving.to_string()));
        }
        json(&drain.status())
    }
}
