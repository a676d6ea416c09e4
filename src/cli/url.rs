//! The URL of a WebSocket server (RFC 6455 section 3).

use std::str::FromStr;

use http::{HeaderValue, Uri};
use thiserror::Error;

use crate::{
    config::Endpoint,
    http_head::{Authority, default_port},
};

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WsUrl {
    /// As it was written.
    pub(super) text: String,
    pub(super) endpoint: Endpoint,
    pub(super) host: HeaderValue,
    pub(super) path_and_query: String,
}

/// Why a text is not such a URL.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum WsUrlError {
    #[error("it is not a URL; write ws://host:port/path or wss://host/path")]
    NotAUrl,
    #[error("its scheme must be ws or wss")]
    Scheme,
    #[error("its host is not valid")]
    Host,
    #[error("it has a user name; send -H 'Authorization: …' instead")]
    UserInformation,
}

impl FromStr for WsUrl {
    type Err = WsUrlError;

    fn from_str(text: &str) -> Result<Self, WsUrlError> {
        let uri: Uri = text.parse().map_err(|_| WsUrlError::NotAUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(WsUrlError::NotAUrl);
        };
        let tls = scheme.eq_ignore_ascii_case("wss");
        if !tls && !scheme.eq_ignore_ascii_case("ws") {
            return Err(WsUrlError::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(WsUrlError::UserInformation);
        }
        let host = Authority::parse(authority.as_str()).ok_or(WsUrlError::Host)?;
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            text: text.to_owned(),
            endpoint: Endpoint::new(tls, host.bare_host().to_owned(), host.port.unwrap_or(default_port(tls))),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| WsUrlError::Host)?,
            // `ws://host?query` has no path.
            path_and_query: if path_and_query.starts_with('/') {
                path_and_query.to_owned()
            } else {
                format!("/{path_and_query}")
            },
        })
    }
}
