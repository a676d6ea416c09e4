//! Conditions on the opening request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use filter_parts::{Matcher, query};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use wsgate_sdk::Handshake;

use crate::identity::takes;
use crate::path;

/// Conditions that have to hold together.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestConditions {
    pub(crate) path: Option<Matcher>,
    pub(crate) host: Option<Matcher>,
    pub(crate) route: Option<Matcher>,
    pub(crate) subprotocol: Option<Matcher>,
    pub(crate) client: Option<Networks>,
    pub(crate) certificate: Option<Matcher>,
    pub(crate) secure: Option<bool>,
    pub(crate) header: BTreeMap<String, Matcher>,
    pub(crate) query: BTreeMap<String, Matcher>,
    pub(crate) parameter: BTreeMap<String, Matcher>,
}

impl RequestConditions {
    pub(crate) fn hold(&self, request: &Handshake) -> bool {
        let path = self.path.as_ref().is_none_or(|matcher| matcher.takes_text(&path::normal(&request.path)));
        let subprotocols = || request.subprotocols.iter().map(|name| Some(name.as_str()));
        path && takes(self.host.as_ref(), Some(&request.host))
            && takes(self.route.as_ref(), Some(&request.route))
            && self.subprotocol.as_ref().is_none_or(|matcher| one_of(matcher, subprotocols()))
            && self.client.as_ref().is_none_or(|networks| networks.contain(&request.client))
            && takes(self.certificate.as_ref(), request.client_certificate.as_deref())
            && self.secure.is_none_or(|secure| secure == request.secure)
            && self.header.iter().all(|(name, matcher)| header_holds(request, name, matcher))
            && self.query_holds(request)
            && self.parameter.iter().all(|(name, matcher)| takes(Some(matcher), request.parameter(name)))
    }

    fn query_holds(&self, request: &Handshake) -> bool {
        if self.query.is_empty() {
            return true;
        }
        let parameters: Vec<_> = query::parameters(request.query.as_deref().unwrap_or_default()).collect();
        self.query.iter().all(|(name, matcher)| {
            let named = parameters.iter().filter(|(written, _)| written == name);
            one_of(matcher, named.map(|(_, value)| Some(value.as_str())))
        })
    }
}

fn header_holds(request: &Handshake, name: &str, matcher: &Matcher) -> bool {
    let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    one_of(matcher, named.map(|header| std::str::from_utf8(&header.value).ok()))
}

/// Whether one of the values is taken, or there is none and that is what is wanted. A value that is no text is only there.
fn one_of<'v>(matcher: &Matcher, values: impl Iterator<Item = Option<&'v str>>) -> bool {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return matcher.takes_absence();
    }
    values.any(|value| match value {
        Some(text) => matcher.takes_text(text),
        None => *matcher == Matcher::Present(true),
    })
}

/// Addresses and networks: `"10.0.0.0/8"`, `"::1"`, or a list of these.
#[derive(Clone, Debug)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether one has the address of an `ip:port`. An IPv4 address that came as an IPv6 one counts as IPv4.
    fn contain(&self, client: &str) -> bool {
        let Ok(address) = client.parse::<SocketAddr>() else {
            return false;
        };
        let address = address.ip().to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an address, a network such as \"10.0.0.0/8\", or a list of these")]
        enum Written {
            One(String),
            Some(Vec<String>),
        }
        let written = match Written::deserialize(from)? {
            Written::One(network) => vec![network],
            Written::Some(networks) => networks,
        };
        let networks = written.iter().map(|network| parse(network).map_err(de::Error::custom));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

fn parse(network: &str) -> Result<IpNet, String> {
    match (network.parse::<IpAddr>(), network.parse::<IpNet>()) {
        (Ok(address), _) => Ok(address.into()),
        (Err(_), Ok(network)) if network.addr() == network.network() => Ok(network),
        (Err(_), Ok(other)) => {
            Err(format!("`{network}` has bits behind its prefix: `{}` is the network", other.trunc()))
        }
        (Err(_), Err(_)) => Err(format!("`{network}` is neither an address nor a network such as `10.0.0.0/8`")),
    }
}
