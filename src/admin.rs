//! The admin API.

use std::{
    convert::Infallible,
    sync::Arc,
    sync::atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{filter::FilterStatus, telemetry::metrics::Metrics};

/// Ready or not.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Serving.
    pub fn started(&self) {
        self.0.store(1, Ordering::Relaxed);
    }
    /// No longer.
    pub fn draining(&self) {
        self.0.store(2, Ordering::Relaxed);
    }
}

/// What the API shows.
pub struct AdminState {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    filters: Box<dyn Fn() -> Vec<FilterStatus> + Send + Sync>,
}

impl AdminState {
    /// All of it.
    pub fn new(
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        filters: Box<dyn Fn() -> Vec<FilterStatus> + Send + Sync>,
    ) -> Self {
        Self { metrics, readiness, filters }
    }

    fn answer(&self, path: &str) -> (u16, Vec<u8>) {
        match path {
            "/livez" | "/healthz" => (200, b"ok\n".to_vec()),
            "/readyz" if self.readiness.0.load(Ordering::Relaxed) == 1 => (200, b"ok\n".to_vec()),
            "/readyz" => (503, b"not ready\n".to_vec()),
            "/metrics" => (200, self.metrics.encode().unwrap_or_default()),
            "/v1/filters" => (200, serde_json::to_vec(&(self.filters)()).unwrap_or_default()),
            _ => (404, Vec::new()),
        }
    }
}

/// Serves.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, body) = state.answer(request.uri().path());
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Serves.
pub async fn serve_health(listener: TcpListener, state: Arc<AdminState>) {
    serve(listener, state).await;
}
