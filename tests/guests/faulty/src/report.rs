//! What is told about a connection.

use serde_json::{Map, Value, json};
use wsgate_sdk::prelude::*;

use crate::Start;

pub(crate) fn start(start: Start) -> String {
    match start {
        Start::Opened => "opened".to_owned(),
        Start::Resumed { cause, state_bytes } => {
            let cause = match cause {
                ResumeCause::Reload => "reload",
                ResumeCause::Fault => "fault",
                ResumeCause::Added => "added",
                ResumeCause::Rollback => "rollback",
            };
            let state = state_bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
            format!("resumed cause={cause} state={state}")
        }
    }
}

pub(crate) fn closer(by: Closer) -> &'static str {
    match by {
        Closer::Client => "client",
        Closer::Upstream => "upstream",
        Closer::Gateway => "gateway",
        Closer::Filter => "filter",
    }
}

pub(crate) fn identity(identity: &Identity) -> String {
    let subject = identity.subject.as_deref().unwrap_or("none");
    let scopes = identity.scopes.join(",");
    let expires = identity.expires_at.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
    format!("identity subject={subject} scopes={scopes} expires={expires}")
}

/// The request as one JSON object, its keys as in the WIT with `_` for `-`. Headers are pairs, bytes that are not UTF-8
/// replaced.
pub(crate) fn handshake(request: &Handshake) -> String {
    let headers: Vec<_> =
        request.headers.iter().map(|header| (&header.name, String::from_utf8_lossy(&header.value))).collect();
    let parameters: Map<_, _> =
        request.parameters.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let identity = request.identity.as_ref().map(|identity| {
        json!({
            "subject": identity.subject,
            "issuer": identity.issuer,
            "scopes": identity.scopes,
            "expires_at": identity.expires_at,
            "claims": identity.parse_claims::<Value>().ok(),
        })
    });
    json!({
        "connection": request.connection,
        "route": request.route,
        "host": request.host,
        "path": request.path,
        "parameters": parameters,
        "query": request.query,
        "headers": headers,
        "subprotocols": request.subprotocols,
        "client": request.client,
        "secure": request.secure,
        "client_certificate": request.client_certificate,
        "identity": identity,
    })
    .to_string()
}
