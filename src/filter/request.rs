//! What goes into a guest, in the shape of the contract: borrowed, so that it is copied once.

use super::{
    Closer, Identity, OpeningRequest,
    bindings::wsgate::filter::types::{self, Handshake, HeaderParam, MessageParam},
};
use crate::message::{Direction, Message};

/// Runs a call with the request. The lists that the contract needs live as long as the call.
pub(super) async fn with_handshake<R>(request: &OpeningRequest, call: impl AsyncFnOnce(Handshake<'_>) -> R) -> R {
    let parameters: Vec<_> = request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| HeaderParam { name, value }).collect();
    let subprotocols: Vec<_> = request.subprotocols.iter().map(String::as_str).collect();
    let client = request.client.to_string();
    let identity = request.identity.borrow().clone();
    let scopes: Vec<_> = identity.iter().flat_map(|identity| &identity.scopes).map(String::as_str).collect();
    call(Handshake {
        connection: &request.connection,
        route: &request.route,
        host: &request.host,
        path: &request.path,
        parameters: &parameters,
        query: request.query.as_deref(),
        headers: &headers,
        subprotocols: &subprotocols,
        client: &client,
        secure: request.secure,
        client_certificate: request.client_certificate.as_deref(),
        identity: identity.as_ref().map(|identity| identity.declared(&scopes)),
    })
    .await
}

impl Identity {
    /// The scopes apart, because the contract wants a list of slices.
    pub(super) fn declared<'a>(&'a self, scopes: &'a [&'a str]) -> types::Identity<'a> {
        types::Identity {
            subject: self.subject.as_deref(),
            issuer: self.issuer.as_deref(),
            scopes,
            expires_at: self.expires_at,
            claims: &self.claims,
        }
    }
}

impl From<Direction> for types::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::ToUpstream => Self::ToUpstream,
            Direction::ToClient => Self::ToClient,
        }
    }
}

impl<'a> From<&'a Message> for MessageParam<'a> {
    fn from(message: &'a Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<Closer> for types::Closer {
    fn from(by: Closer) -> Self {
        match by {
            Closer::Client => Self::Client,
            Closer::Upstream => Self::Upstream,
            Closer::Gateway => Self::Gateway,
            Closer::Filter => Self::Filter,
        }
    }
}
