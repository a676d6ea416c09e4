//! `[[listeners]]`, and what it means for routes.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{
    super::{
        leaf::{At, Table},
        raw::{RawListener, RawListenerTls, RawRoute},
        types::{Listener, ListenerTls, TrustedProxies},
    },
    Checker,
};

const MAX_LISTENERS: usize = 64;
/// Each is looked at for every request of a proxy.
const MAX_TRUSTED_PROXIES: usize = 1024;

impl Checker<'_> {
    pub(super) fn listeners(&mut self, raw: &[At<Table<RawListener>>]) -> Vec<Listener> {
        if raw.is_empty() {
            self.refuse_key::<()>(None, "listeners", "missing; write at least one [[listeners]] table with an address");
        }
        for at in raw.iter().skip(MAX_LISTENERS) {
            self.refuse(at, format!("at most {MAX_LISTENERS} listeners are accepted"));
        }
        raw.iter().filter_map(|at| self.listener(at)).collect()
    }

    fn listener(&mut self, at: &At<Table<RawListener>>) -> Option<Listener> {
        let raw = &at.value;
        let address = self.required_address(at, raw.address.as_ref());
        let tls = raw.tls.as_ref().and_then(|at| self.listener_tls(at));
        let trusted_proxies = self.trusted_proxies(raw);
        let proxy_protocol = raw.proxy_protocol.as_ref().is_some_and(|at| at.value);
        if let Some(at) = raw.proxy_protocol.as_ref().filter(|at| at.value)
            && trusted_proxies.is_empty()
            && address.is_some_and(|address| !is_loopback(address))
        {
            self.warn(
                at,
                "whoever reaches this listener can claim any address; name those who send the header in trusted_proxies",
            );
        }
        Some(Listener { address: address?, tls, trusted_proxies, proxy_protocol })
    }

    fn listener_tls(&mut self, at: &At<Table<RawListenerTls>>) -> Option<ListenerTls> {
        let raw = &at.value;
        if raw.certificate.is_none() {
            self.refuse_key(Some(at), "certificate", "missing; write the path of a PEM file with the certificate");
        }
        if raw.private_key.is_none() {
            self.refuse_key(
                Some(at),
                "private_key",
                "missing; write the path of a PEM file with the certificate's key",
            );
        }
        let certificate = raw.certificate.as_ref().map(|at| self.path(at));
        let private_key = raw.private_key.as_ref().map(|at| self.path(at));
        let client_ca = raw.client_ca.as_ref().map(|at| self.path(at));
        Some(ListenerTls { certificate: certificate?, private_key: private_key?, client_ca })
    }

    fn trusted_proxies(&mut self, raw: &RawListener) -> TrustedProxies {
        let Some(list) = &raw.trusted_proxies else { return TrustedProxies::default() };
        if list.value.len() > MAX_TRUSTED_PROXIES {
            self.refuse(list, format!("at most {MAX_TRUSTED_PROXIES} networks are accepted"));
            return TrustedProxies::default();
        }
        self.all_differ(&list.value, "network");
        let networks = list.value.iter().filter_map(|at| self.network(at)).collect();
        TrustedProxies::new(networks)
    }

    fn network(&mut self, at: &At<String>) -> Option<IpNet> {
        let network = at.value.parse::<IpNet>().ok().or_else(|| at.value.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(network) = network else {
            self.refuse_as(at, "a network; write one such as \"10.0.0.0/8\" or \"fd00::/8\", or a single address");
            return None;
        };
        if network.trunc() != network {
            self.refuse_as(at, format!("accepted; the network of this address is {:?}", network.trunc().to_string()));
        }
        if network.prefix_len() == 0 {
            self.warn(at, "whoever reaches this listener can claim any address; name the networks of your proxies");
        }
        Some(network)
    }

    /// Whoever reaches an open route may use it. On a machine of one's own that is what one wants.
    pub(super) fn warn_of_open_routes(&mut self, listeners: &[Listener], raw: &[At<Table<RawRoute>>]) {
        let Some(listener) = listeners.iter().find(|listener| !is_loopback(listener.address)) else { return };
        for at in raw.iter().filter(|at| at.value.auth.is_none()) {
            self.warn(
                at,
                format!(
                    "clients of this route need no token, and the listener {} is not for this machine alone; name a \
                     [jwt.*] table in auth, or write auth = \"none\"",
                    listener.address
                ),
            );
        }
    }
}

/// Can only this machine reach it?
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
