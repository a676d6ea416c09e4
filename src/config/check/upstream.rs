//! `[upstreams.*]`

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        leaf::{At, Table},
        pattern::{HostPattern, is_plain_path},
        raw::{RawEndpoint, RawUpstream},
        types::{Endpoint, HostHeader, Upstream},
    },
    A_PLAIN_NAME, Checker,
    dialling::parse_socket,
    is_plain_name,
};
use crate::http_head::{self, default_port, parse_port};

const MAX_ENDPOINTS: usize = 1024;
/// More would let one client open connections to every endpoint.
const MAX_RETRIES: usize = 10;
/// With more, one endpoint would fill the ring of `ring_hash`.
const MAX_WEIGHT: usize = 256;

impl Checker<'_> {
    pub(super) fn upstream(&mut self, name: &str, at: &At<Table<RawUpstream>>) -> (String, Upstream) {
        if !is_plain_name(name) {
            self.refuse(at, format!("{name:?} is not {A_PLAIN_NAME}"));
        }
        let raw = &at.value;
        let endpoints = match &raw.endpoints {
            Some(endpoints) => self.endpoints(endpoints),
            None => {
                self.refuse_key(
                    Some(at),
                    "endpoints",
                    "missing; write at least one, such as [\"ws://127.0.0.1:9001\"]",
                );
                Vec::new()
            }
        };
        let tls = self.upstream_tls(raw, &endpoints).unwrap_or_default();
        let spare_connections = self.spare_connections(raw, &endpoints);
        let default = Upstream::with_endpoints(endpoints);
        let (at_least, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let upstream = Upstream {
            balance: self.balance(at, default.balance),
            affinity_cookie: raw.affinity_cookie.as_ref().map(|at| self.affinity_cookie(at)),
            host_header: raw.host_header.as_ref().map_or(default.host_header, |at| self.host_header(at)),
            tls,
            spare_connections,
            connect_timeout: self.time(raw.connect_timeout.as_ref(), default.connect_timeout, at_least),
            per_try_timeout: self.time(raw.per_try_timeout.as_ref(), default.per_try_timeout, at_least),
            retries: self.count(raw.retries.as_ref(), default.retries, 0..=MAX_RETRIES),
            slow_start: self.time_or_off(raw.slow_start.as_ref(), default.slow_start),
            health_check: raw.health_check.as_ref().map(|at| self.health_check(at)),
            outlier_detection: self.outlier_detection(&raw.outlier_detection),
            resolver: raw.resolver.as_ref().and_then(|at| self.resolver(at)),
            dns_interval: self.time(raw.dns_interval.as_ref(), default.dns_interval, second),
            endpoints: default.endpoints,
        };
        (name.to_owned(), upstream)
    }

    fn endpoints(&mut self, raw: &At<Vec<At<RawEndpoint>>>) -> Vec<Endpoint> {
        let count = raw.value.len();
        let is_emptied = count == 0 && self.document.key(&raw.span).is_some_and(|key| self.is_wrong(&key));
        if !is_emptied && !(1..=MAX_ENDPOINTS).contains(&count) {
            self.refuse(raw, format!("{count} endpoints are not accepted; write 1 to {MAX_ENDPOINTS}"));
        }
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        for at in &raw.value {
            let (url, weight) = match &at.value {
                RawEndpoint::Url(url) => (At { value: url.clone(), span: at.span.clone() }, None),
                RawEndpoint::Table(table) => match &table.url {
                    Some(url) => (url.clone(), table.weight.as_ref()),
                    None => {
                        self.refuse_key(Some(at), "url", "missing; write a URL such as \"ws://127.0.0.1:9001\"");
                        continue;
                    }
                },
            };
            let weight = self.count(weight, 1, 0..=MAX_WEIGHT);
            match parse_endpoint(&url.value) {
                Ok(endpoint) => {
                    let endpoint = Endpoint { weight: u32::try_from(weight).unwrap_or(1), ..endpoint };
                    let Endpoint { socket, srv, host, port, base_path, .. } = endpoint.clone();
                    if !seen.insert((socket, srv, host, port, base_path)) {
                        self.warn(&url, "this endpoint is in the list already and gets that many shares");
                    }
                    endpoints.push(endpoint);
                }
                // The URL may hold a password.
                Err(why @ EndpointError::UserInfo) => self.refuse(&url, why.to_string()),
                Err(why) => self.refuse_as(&url, format!("an endpoint: {why}")),
            }
        }
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            self.refuse(raw, "every weight is 0, so no endpoint would get a connection; write a larger one");
        }
        endpoints
    }

    fn host_header(&mut self, at: &At<String>) -> HostHeader {
        match at.value.as_str() {
            "preserve" => HostHeader::Preserve,
            "endpoint" => HostHeader::Endpoint,
            literal => {
                if !is_host_and_port(literal) {
                    self.refuse_as(
                        at,
                        "a host; write \"preserve\", \"endpoint\" or a host such as \"chat.example.com\"",
                    );
                }
                HostHeader::Literal(literal.to_owned())
            }
        }
    }
}

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, Eq, thiserror::Error, PartialEq)]
pub(in super::super) enum EndpointError {
    #[error("SRV records say the port; remove it")]
    SrvPort,
    #[error("it begins neither with ws:// nor with wss:// nor with unix:; write a URL such as \"ws://127.0.0.1:9001\"")]
    Scheme,
    #[error("the path of a Unix socket begins with /; write \"unix:/run/app.sock\" or \"unix:/run/app.sock:/path\"")]
    Socket,
    #[error("the path of its socket has more than 107 bytes, which no address of a socket has room for")]
    SocketTooLong,
    #[error("a URL with \"@\" (a user name or a password) is not accepted; send credentials with request_headers")]
    UserInfo,
    #[error("it has a query; the client's query is passed on as it came")]
    Query,
    #[error("it has a fragment (\"#\"), which is never sent")]
    Fragment,
    #[error("its host is neither a name nor an address")]
    Host,
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error("its path has a character that needs percent-encoding, or a \".\" or \"..\" segment")]
    Path,
}

/// `ws://host:port/path` or `wss://…`, or `ws+srv://name/path` or `wss+srv://…`, or
/// `unix:/path/of/socket:/path`
pub(in super::super) fn parse_endpoint(url: &str) -> Result<Endpoint, EndpointError> {
    if let Some(rest) = url.strip_prefix("unix:") {
        return parse_socket(rest);
    }
    // First, because a password that is not encoded may look like any other part.
    if url.contains('@') {
        return Err(EndpointError::UserInfo);
    }
    let (scheme, rest) = url.split_once("://").ok_or(EndpointError::Scheme)?;
    let (tls, srv) = match scheme.to_ascii_lowercase().as_str() {
        "ws" => (false, false),
        "wss" => (true, false),
        "ws+srv" => (false, true),
        "wss+srv" => (true, true),
        _ => return Err(EndpointError::Scheme),
    };
    if rest.contains('#') {
        return Err(EndpointError::Fragment);
    }
    if rest.contains('?') {
        return Err(EndpointError::Query);
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = split_port(authority)?;
    if srv && port.is_some() {
        return Err(EndpointError::SrvPort);
    }
    let base_path = path.trim_end_matches('/');
    if !base_path.is_empty() && !is_plain_path(base_path) {
        return Err(EndpointError::Path);
    }
    let port = port.unwrap_or(default_port(tls));
    Ok(Endpoint { base_path: base_path.to_owned(), srv, ..Endpoint::new(tls, host, port) })
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), EndpointError> {
    let (host, port) = http_head::split_port(authority);
    if host.contains(':') && !host.starts_with('[') {
        return Err(EndpointError::Host);
    }
    let HostPattern::Exact(host) = host.parse().map_err(|_| EndpointError::Host)? else {
        return Err(EndpointError::Host);
    };
    Ok((host, port.map(|digits| parse_port(digits).ok_or(EndpointError::Port)).transpose()?))
}

fn is_host_and_port(text: &str) -> bool {
    split_port(text).is_ok()
}
