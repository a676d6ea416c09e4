//! `[[listeners]]`

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

/// `[[listeners]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// With TLS?
    pub tls: Option<ListenerTls>,
    /// Whose word on where a connection comes from counts.
    pub trusted_proxies: TrustedProxies,
    /// Does each connection begin with a PROXY header?
    pub proxy_protocol: bool,
}

impl Listener {
    /// Everything else as by default.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, tls: None, trusted_proxies: TrustedProxies::default(), proxy_protocol: false }
    }
}

/// `[[listeners]] tls`; all absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerTls {
    /// The chain that clients are shown, PEM.
    pub certificate: PathBuf,
    /// The key of its first certificate, PEM.
    pub private_key: PathBuf,
    /// Clients need a certificate that one of these vouches for, PEM.
    pub client_ca: Option<PathBuf>,
}

/// `[[listeners]] trusted_proxies`; by default nobody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Is nobody trusted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is this the address of a trusted proxy? An IPv4 address that is written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}
