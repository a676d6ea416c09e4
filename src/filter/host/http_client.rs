//! HTTP requests of guests, to the origins that their filter may use.

use std::time::Duration;

use super::Host;
use crate::{
    filter::bindings::wsgate::filter::{
        http_client::{Error, Host as HttpClient, Request, Response},
        types::HeaderResult,
    },
    http_client::{Call, CallError, Request as Checked},
};

const DENIED: &str = "denied";

impl Host {
    /// The request as it may be sent.
    fn allowed(&self, request: Request) -> Result<Checked, Error> {
        let Request { method, url, headers, body, timeout_ms } = request;
        let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
        let checked = match Checked::check(Call { method, url, headers, body }) {
            Ok(_) if timeout_ms == 0 => Err(CallError::Invalid("timeout-ms is 0".to_owned())),
            checked => checked,
        };
        match checked {
            Ok(checked) if self.rights.may_call(checked.origin()) => Ok(checked),
            // The origin alone: the rest of a URL may hold secrets.
            Ok(checked) => Err(self.denied_call(&checked.origin().to_string())),
            Err(_) if !self.rights.may_call_any() => Err(self.denied_call("an invalid request")),
            Err(error) => {
                self.http.count(error.label());
                Err(error.into())
            }
        }
    }

    fn denied_call(&self, asked: &str) -> Error {
        self.http.count(DENIED);
        self.denied("http-client", asked);
        Error::Denied
    }
}

impl HttpClient for Host {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Error>> {
        let timeout = Duration::from_millis(request.timeout_ms.into()).min(self.meter.wait_left());
        let request = self.allowed(request);
        let (http, max_body_bytes) = (self.http.clone(), self.fuel_bytes);
        let recorder = self.recorder.clone();
        let answer = async {
            let request = request?;
            let response = match recorder {
                Some(recorder) => recorder.answer(request)?,
                None => http.send(request, timeout, max_body_bytes).await?,
            };
            let header = |(name, value)| HeaderResult { name, value };
            Ok(Response {
                status: response.status,
                headers: response.headers.into_iter().map(header).collect(),
                body: response.body,
            })
        };
        Ok(answer.await)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Invalid(text) => Self::Invalid(text),
            CallError::Timeout => Self::Timeout,
            CallError::TooLarge => Self::TooLarge,
            CallError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
