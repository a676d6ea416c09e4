//! `[upstreams.*]`: TLS, Unix sockets and spare connections.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::{
    super::{
        leaf::{At, Table},
        pattern::is_plain_path,
        raw::{RawUpstream, RawUpstreamTls},
        types::{ClientCertificate, Endpoint, UpstreamTls},
    },
    Checker,
    upstream::EndpointError,
};

/// Each is a socket at both ends that serves nobody yet.
const MAX_SPARE_CONNECTIONS: usize = 256;
/// What `sun_path` of an address has room for, without the NUL at its end (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

impl Checker<'_> {
    pub(super) fn upstream_tls(&mut self, raw: &RawUpstream, endpoints: &[Endpoint]) -> Option<UpstreamTls> {
        let at = raw.tls.as_ref()?;
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| !endpoint.tls) {
            self.refuse(at, "no endpoint of this upstream speaks TLS; write wss:// for those that do");
        }
        let server_name = at.value.server_name.as_ref().map(|at| self.server_name(at));
        let ca = at.value.ca.as_ref().map(|at| self.path(at));
        Some(UpstreamTls { ca, certificate: self.client_certificate(at), server_name })
    }

    fn client_certificate(&mut self, at: &At<Table<RawUpstreamTls>>) -> Option<ClientCertificate> {
        let (certificate, private_key) = match (&at.value.certificate, &at.value.private_key) {
            (None, None) => return None,
            (Some(_), None) => {
                let missing = "missing; write the path of a PEM file with the certificate's key";
                self.refuse_key(Some(at), "private_key", missing);
                return None;
            }
            (None, Some(_)) => {
                let missing = "missing; write the path of a PEM file with the certificate of the key";
                self.refuse_key(Some(at), "certificate", missing);
                return None;
            }
            (Some(certificate), Some(private_key)) => (certificate, private_key),
        };
        Some(ClientCertificate { certificate: self.path(certificate), private_key: self.path(private_key) })
    }

    fn server_name(&mut self, at: &At<String>) -> String {
        if ServerName::try_from(at.value.as_str()).is_err() {
            self.refuse_as(at, "a name that a certificate can have; write a host such as \"chat.internal\"");
        }
        at.value.clone()
    }

    pub(super) fn spare_connections(&mut self, raw: &RawUpstream, endpoints: &[Endpoint]) -> usize {
        let count = self.count(raw.spare_connections.as_ref(), 0, 0..=MAX_SPARE_CONNECTIONS);
        if let Some(at) = raw.spare_connections.as_ref().filter(|_| count > 0)
            && !endpoints.is_empty()
            && endpoints.iter().all(|endpoint| endpoint.socket.is_some())
        {
            self.warn(at, "connections to Unix sockets are never dialled ahead: they take no time");
        }
        count
    }
}

/// `/run/app.sock`, `/run/app.sock:/base/path` or `@abstract`: what stands behind `unix:`.
pub(super) fn parse_socket(rest: &str) -> Result<Endpoint, EndpointError> {
    let (socket, path) = rest.find(":/").map_or((rest, ""), |colon| (&rest[..colon], &rest[colon + 1..]));
    let name = socket.strip_prefix('@');
    if socket.contains('\0') || !(socket.starts_with('/') || name.is_some_and(|name| !name.is_empty())) {
        return Err(EndpointError::Socket);
    }
    if socket.len() > MAX_SOCKET_PATH_BYTES {
        return Err(EndpointError::SocketTooLong);
    }
    let base_path = path.trim_end_matches('/');
    if !base_path.is_empty() && !is_plain_path(base_path) {
        return Err(EndpointError::Path);
    }
    // As nginx and curl show it to servers behind a socket.
    let shown = Endpoint::new(false, "localhost".to_owned(), 80);
    Ok(Endpoint { socket: Some(PathBuf::from(socket)), base_path: base_path.to_owned(), ..shown })
}
