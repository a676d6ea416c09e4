//! The endpoints of a name: as many as it has addresses, resolved again and again.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    net::lookup_host,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Upstream,
    balance::EndpointSet,
    dns::{Records, Resolver, Service},
    endpoint::{Endpoint, Found},
    error::{ConnectError, DialError},
};
use crate::{config, http_head::bracketed};

/// Servers of one name; further ones are left out.
const MAX_SERVERS: usize = 256;
/// For one look-up, over everything that it asks.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// A look-up that failed is made again after this, or after `dns_interval` where that is shorter.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// For so long after a failed look-up those who need it are told at once that it failed.
const FAILURE_COUNTS: Duration = Duration::from_secs(1);
/// However short an answer's TTL is.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Look-ups of many gateways are spread: they come this much earlier or later.
const JITTER: f64 = 0.1;

/// A configured endpoint whose host is a name.
pub(super) struct Named {
    pub(super) endpoint: config::Endpoint,
    known: Mutex<Vec<(Found, Arc<Endpoint>)>>,
    /// One look-up at a time.
    lookup: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
}

impl Named {
    pub(super) fn new(endpoint: config::Endpoint) -> Self {
        Self { endpoint, known: Mutex::default(), lookup: tokio::sync::Mutex::default() }
    }

    /// What the name has led to last.
    pub(super) fn found(&self) -> Vec<Found> {
        self.lock().iter().map(|(found, _)| found.clone()).collect()
    }

    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.lock().iter().map(|(_, endpoint)| Arc::clone(endpoint)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Found, Arc<Endpoint>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> String {
        match self.endpoint.srv {
            true => self.endpoint.host.clone(),
            false => format!("{}:{}", bracketed(&self.endpoint.host), self.endpoint.port),
        }
    }
}

/// Resolves a name for as long as its upstream lives and is not stopped.
pub(super) async fn keep_resolved(upstream: Weak<Upstream>, index: usize) {
    let mut failing = false;
    loop {
        let Some(upstream) = upstream.upgrade() else { return };
        let Some(named) = upstream.names.get(index) else { return };
        let interval = upstream.config.dns_interval;
        let mut last = named.lookup.lock().await;
        let next = match upstream.look_up(named).await {
            Ok(ttl) => {
                (*last, failing) = (None, false);
                ttl.map_or(interval, |ttl| ttl.clamp(SHORTEST_INTERVAL, interval.max(SHORTEST_INTERVAL)))
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let kept = named.lock().len();
                    tracing::warn!(upstream = upstream.name, host = named.shown(), %error, kept, "a host is not resolved");
                }
                *last = Some((Instant::now(), error.to_string().into()));
                interval.min(RETRY_INTERVAL)
            }
        };
        drop(last);
        drop(upstream);
        sleep(next.mul_f64(rand::random_range(1.0 - JITTER..=1.0 + JITTER))).await;
    }
}

impl Upstream {
    /// The endpoints as they are known. Where none is yet, names are resolved first.
    pub(super) async fn endpoints(&self, deadline: Instant) -> Result<Arc<EndpointSet>, DialError> {
        for named in &self.names {
            let set = self.set.load_full();
            if !set.endpoints.is_empty() {
                return Ok(set);
            }
            let failed = |source| DialError::Connect { endpoint: named.shown(), source };
            let end = Instant::now().checked_add(self.config.connect_timeout).map_or(deadline, |end| end.min(deadline));
            let late = |_| DialError::Timeout { endpoint: named.shown() };
            let mut last = timeout_at(end, named.lookup.lock()).await.map_err(late)?;
            if !self.set.load().endpoints.is_empty() {
                break;
            }
            let is_last = named.endpoint == self.names.last().unwrap_or(named).endpoint;
            let recent = last.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_COUNTS);
            let error = match recent {
                Some((_, error)) => io::Error::other(error.to_string()),
                None => match timeout_at(end, self.look_up(named)).await.map_err(late)? {
                    Ok(_) => break,
                    Err(error) => {
                        *last = Some((Instant::now(), error.to_string().into()));
                        error
                    }
                },
            };
            if is_last {
                return Err(failed(ConnectError::Resolve(error)));
            }
        }
        Ok(self.set.load_full())
    }

    /// Resolves a name and takes over what it leads to. On an error everything stays as it was.
    async fn look_up(&self, named: &Named) -> io::Result<Option<Duration>> {
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the look-up takes too long"));
        match timeout(LOOKUP_TIMEOUT, find(&named.endpoint, self.config.resolver)).await.unwrap_or_else(late) {
            Ok((found, ttl)) => {
                self.metrics.resolved.inc();
                self.found(named, found);
                Ok(ttl)
            }
            Err(error) => {
                self.metrics.not_resolved.inc();
                Err(error)
            }
        }
    }

    /// The name leads here now. Endpoints that stay are the same as before.
    pub(super) fn found(&self, named: &Named, found: Vec<Found>) {
        let mut known = named.lock();
        if known.iter().map(|(found, _)| found).eq(&found) {
            return;
        }
        let before = std::mem::take(&mut *known);
        let joins = !self.set.load().endpoints.is_empty();
        *known = found
            .into_iter()
            .map(|found| match before.iter().find(|(old, _)| *old == found) {
                Some((_, endpoint)) => (found, Arc::clone(endpoint)),
                None => {
                    let endpoint = Arc::new(self.maker.make(&named.endpoint, &found, joins));
                    (found, endpoint)
                }
            })
            .collect();
        let labels: Vec<_> = known.iter().map(|(_, endpoint)| endpoint.label.as_str()).collect();
        tracing::info!(upstream = self.name, host = named.shown(), endpoints = ?labels, "a host is resolved");
        drop(known);
        self.rebuild();
    }
}

/// Where the servers of an endpoint are, in order, and how long that counts where DNS says so.
async fn find(endpoint: &config::Endpoint, resolver: Option<SocketAddr>) -> io::Result<(Vec<Found>, Option<Duration>)> {
    if !endpoint.srv {
        let (addresses, ttl) = addresses(&endpoint.host, resolver).await?;
        return Ok((places(&endpoint.host, endpoint.port, 0, 1, addresses), ttl));
    }
    let asked = match resolver {
        Some(server) => Resolver::at(server),
        None => Resolver::of_this_machine().await,
    };
    let Records { mut records, mut ttl } = asked.services(&endpoint.host).await?;
    records.truncate(MAX_SERVERS);
    let weights = relative(&records);
    let mut found = Vec::new();
    let mut failed = None;
    let targets = records.iter().map(|service| addresses(&service.target, resolver));
    let targets = futures_util::future::join_all(targets).await;
    for ((service, weight), target) in records.iter().zip(weights).zip(targets) {
        match target {
            Ok((addresses, of_address)) => {
                ttl = of_address.map_or(ttl, |of_address| ttl.min(of_address));
                found.extend(places(&service.target, service.port, service.priority, weight, addresses));
            }
            Err(error) => failed = Some(error),
        }
    }
    found.sort();
    found.dedup();
    found.truncate(MAX_SERVERS);
    match failed {
        // What has no address now is missing; the others serve.
        Some(error) if found.is_empty() => Err(error),
        Some(_) | None => Ok((found, Some(ttl))),
    }
}

async fn addresses(host: &str, resolver: Option<SocketAddr>) -> io::Result<(Vec<IpAddr>, Option<Duration>)> {
    if let Ok(address) = host.parse() {
        return Ok((vec![address], None));
    }
    match resolver {
        Some(server) => {
            let Records { records, ttl } = Resolver::at(server).addresses(host).await?;
            Ok((records, Some(ttl)))
        }
        None => {
            let found: Vec<_> = lookup_host((host, 0)).await?.map(|address| address.ip()).collect();
            let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            if found.is_empty() { Err(none()) } else { Ok((found, None)) }
        }
    }
}

/// A server for each address. A server of two families has two addresses: so IPv4 counts, where a name has both, and IPv6
/// is what is tried next where there is one server only, such as `localhost`.
fn places(host: &str, port: u16, priority: u16, weight: u32, mut addresses: Vec<IpAddr>) -> Vec<Found> {
    addresses.sort();
    addresses.dedup();
    let text = |address: &&IpAddr| address.to_string();
    let (four, six): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv4());
    let found = |addresses| Found { priority, weight, host: host.to_owned(), port, addresses };
    let mut all: Vec<Found> = match four.len() {
        0 => six.iter().map(|address| found(vec![text(address)])).collect(),
        1 => vec![found(four.iter().chain(six.first()).map(text).collect())],
        _ => four.iter().map(|address| found(vec![text(address)])).collect(),
    };
    all.truncate(MAX_SERVERS);
    all
}

/// Weights of SRV records, from 0 to 65535, as shares of at most 256; where there are none, all have the same.
fn relative(services: &[Service]) -> Vec<u32> {
    const MOST: u32 = 256;
    let divisor = services.iter().map(|service| u32::from(service.weight)).fold(0, gcd).max(1);
    let largest = services.iter().map(|service| u32::from(service.weight) / divisor).max().unwrap_or(0);
    let share = |service: &Service| {
        let weight = u32::from(service.weight) / divisor;
        // RFC 2782: a weight of 0 has a very small chance beside others.
        (if largest > MOST { weight * MOST / largest } else { weight }).max(1)
    };
    services.iter().map(share).collect()
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Vec<Vec<String>> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        places("a", 80, 0, 1, addresses).into_iter().map(|found| found.addresses).collect()
    }

    #[test]
    fn each_address_is_a_server_and_two_families_are_not_two() {
        assert_eq!(found(&["192.0.2.2", "192.0.2.1", "192.0.2.2"]), [["192.0.2.1"], ["192.0.2.2"]]);
        assert_eq!(found(&["::1", "127.0.0.1"]), [["127.0.0.1", "::1"]]);
        assert_eq!(found(&["::1", "192.0.2.1", "192.0.2.2"]), [["192.0.2.1"], ["192.0.2.2"]]);
        assert_eq!(found(&["::2", "::1"]), [["::1"], ["::2"]]);
        assert_eq!(found(&[]), Vec::<Vec<String>>::new());
    }

    #[test]
    fn weights_of_srv_records_keep_their_relations_and_get_small() {
        let service = |weight| Service { priority: 0, weight, port: 1, target: "a".to_owned() };
        let relative = |weights: &[u16]| relative(&weights.iter().map(|weight| service(*weight)).collect::<Vec<_>>());
        assert_eq!(relative(&[10, 20, 30]), [1, 2, 3]);
        assert_eq!(relative(&[0, 0]), [1, 1]);
        assert_eq!(relative(&[0, 5]), [1, 1]);
        assert_eq!(relative(&[65535, 1]), [256, 1]);
        assert_eq!(relative(&[7]), [1]);
    }
}
