//! The opening request in the shape of the contract, borrowed.

use super::{
    OpeningRequest,
    bindings::wsgate::filter::types::{Handshake, HeaderParam},
};

/// Runs a call with the request. The lists that the contract needs live as long as the call.
pub(super) async fn with_handshake<R>(request: &OpeningRequest, call: impl AsyncFnOnce(Handshake<'_>) -> R) -> R {
    let parameters: Vec<_> = request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| HeaderParam { name, value }).collect();
    let subprotocols: Vec<_> = request.subprotocols.iter().map(String::as_str).collect();
    let client = request.client.to_string();
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
        client_certificate: None,
        identity: None,
    })
    .await
}
