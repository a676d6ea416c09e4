//! Requests of the gateway itself, of which there are few: no filter's limits and metrics.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::{CallError, Client, RESPONSE_BODY_BYTES, Request, Response, exchange::exchange, known};

/// The gateway's own way out of one runtime.
pub struct Direct(Arc<Client>);

impl Direct {
    /// Trusts what this says; `None` where only `http://` is used.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self(Arc::new(Client { tls: known(tls), idle: Default::default(), calls: Default::default() }))
    }

    /// Sends a request and waits for the whole response, which may have a body of `max_body_bytes`. Dropping the future
    /// ends the call and its connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn send(
        &self,
        request: &Request,
        timeout: Duration,
        max_body_bytes: usize,
    ) -> Result<Response, CallError> {
        let end = Instant::now() + timeout;
        let call = exchange(&self.0, request, end, max_body_bytes.min(RESPONSE_BODY_BYTES));
        timeout_at(end, call).await.unwrap_or(Err(CallError::Timeout))
    }
}
