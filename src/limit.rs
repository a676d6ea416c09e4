//! How much may come: connections and handshakes, of all, of an address, of a user; messages and bytes of those who are
//! connected.
//!
//! What is counted belongs to the process and to the names of its routes, not to a worker or a configuration: whoever
//! asks for the limits of a route of the same name and the same figures goes on where the last one stopped. Where the
//! figures are others, rates begin anew, and connections are counted over to the new limit by [`Places::move_to`].

mod key;
mod place;
mod rate;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

pub use self::{
    place::Places,
    rate::{MessageRates, Meter, Passed},
};
use self::{
    place::{Counted, Counter},
    rate::Rate,
};
use crate::{
    config::{ConnectionLimits, LimitBy, RateLimit, RouteLimits},
    identity::Identity,
    telemetry::metrics::{LimitMetrics, Metrics},
};

/// Rates that nobody used for a while are forgotten this often.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A limit: the label `limit` of `ratelimited_total`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Limit {
    /// Open connections: of all routes, or of one.
    Connections,
    /// Of one address.
    ConnectionsPerIp,
    /// Of one user.
    ConnectionsPerUser,
    /// Handshakes a second.
    Handshakes,
    /// Of one address.
    HandshakesPerIp,
    /// Messages.
    Messages,
    /// Bytes.
    Bytes,
}

impl Limit {
    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerIp => "connections_per_ip",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::Handshakes => "handshakes_per_second",
            Self::HandshakesPerIp => "handshakes_per_second_per_ip",
            Self::Messages => "messages",
            Self::Bytes => "bytes",
        }
    }

    /// Is it the client's own, so that waiting for others helps nothing?
    #[must_use]
    pub fn is_of_the_client(self) -> bool {
        match self {
            Self::Connections => false,
            Self::ConnectionsPerIp
            | Self::ConnectionsPerUser
            | Self::Handshakes
            | Self::HandshakesPerIp
            | Self::Messages
            | Self::Bytes => true,
        }
    }
}

/// Every limit of the process. Workers share one.
pub struct Limits {
    /// Those of a configuration that is gone are gone with the last connection that counts against them.
    limiters: Mutex<HashMap<(String, RouteLimits), Weak<RouteLimiter>>>,
    metrics: Arc<Metrics>,
}

/// The limits of one route, and what counts against them.
pub struct RouteLimiter {
    connections: Counter,
    handshakes: Option<Rate>,
    handshakes_per_ip: Option<Rate>,
    messages: Option<(RateLimit, Rate)>,
    bytes: Option<(RateLimit, Rate)>,
    metrics: LimitMetrics,
}

impl Limits {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { limiters: Mutex::default(), metrics: Arc::clone(metrics) }
    }

    /// `[server.limits]`: those of all routes together.
    #[must_use]
    pub fn all(&self, limits: &ConnectionLimits) -> Arc<RouteLimiter> {
        // No route has this name.
        self.route("-", &RouteLimits { connections: *limits, ..RouteLimits::default() })
    }

    /// `[routes.limits]` of the route of this name, with what counted against them so far.
    #[must_use]
    pub fn route(&self, name: &str, limits: &RouteLimits) -> Arc<RouteLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), *limits);
        if let Some(known) = limiters.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        limiters.retain(|_, limiter| limiter.strong_count() > 0);
        let limiter = Arc::new(RouteLimiter::new(limits, self.metrics.limits(name)));
        limiters.insert(key, Arc::downgrade(&limiter));
        limiter
    }

    /// Forgets what nobody used for so long that it makes no difference. Takes a while with many clients: not for a thread
    /// that serves them.
    pub fn sweep(&self) {
        let limiters: Vec<_> =
            self.limiters.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect();
        for limiter in limiters {
            limiter.rates().for_each(Rate::sweep);
        }
    }
}

impl RouteLimiter {
    fn new(limits: &RouteLimits, metrics: LimitMetrics) -> Self {
        let a_second = |count: Option<usize>| {
            count.and_then(|count| Rate::new(count as u64, Duration::from_secs(1), count as u64, 1))
        };
        let rate = |limit: Option<RateLimit>, unit: fn(&RateLimit) -> u64| {
            limit.and_then(|limit| Some((limit, Rate::new(limit.amount, limit.per, limit.burst, unit(&limit))?)))
        };
        Self {
            connections: Counter::new(&limits.connections),
            handshakes: a_second(limits.connections.handshakes_per_second),
            handshakes_per_ip: a_second(limits.connections.handshakes_per_second_per_ip),
            messages: rate(limits.messages, |_| 1),
            bytes: rate(limits.bytes, rate::unit_bytes),
            metrics,
        }
    }

    fn rates(&self) -> impl Iterator<Item = &Rate> {
        let limits = [&self.messages, &self.bytes].into_iter().flatten().map(|(_, rate)| rate);
        [&self.handshakes, &self.handshakes_per_ip].into_iter().flatten().chain(limits)
    }

    /// Counts an opening request of this address, whatever becomes of it.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn handshake(&self, client: IpAddr) -> Result<(), Limit> {
        // The address first: one that asks too often takes nothing from the others.
        let of_the_address =
            self.handshakes_per_ip.as_ref().is_none_or(|rate| rate.take(&rate.key(key::address(client))));
        if !of_the_address {
            return Err(self.refused(Limit::HandshakesPerIp));
        }
        if self.handshakes.as_ref().is_some_and(|rate| !rate.take(&key::EVERYBODY)) {
            return Err(self.refused(Limit::Handshakes));
        }
        Ok(())
    }

    /// Takes a place for a connection from this address.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn enter(self: &Arc<Self>, client: IpAddr, places: &mut Places) -> Result<(), Limit> {
        self.take_place(Counted::Address(key::address(client)), places)?;
        self.take_place(Counted::Connection, places)
    }

    /// Takes the place that the connection's user has.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn enter_user(self: &Arc<Self>, identity: &Identity, client: IpAddr, places: &mut Places) -> Result<(), Limit> {
        self.take_place(Counted::User(key::user(identity, client)), places)
    }

    fn take_place(self: &Arc<Self>, counted: Counted, places: &mut Places) -> Result<(), Limit> {
        places.take(self, counted).map_err(|limit| self.refused(limit))
    }

    /// What a connection's messages are measured with; none where the route has no such limit.
    #[must_use]
    pub fn message_rates(self: &Arc<Self>, client: IpAddr, identity: Option<&Identity>) -> Option<Box<MessageRates>> {
        let meter = |limit: Limit, of: &Option<(RateLimit, Rate)>| {
            let (settings, rate) = of.as_ref()?;
            let key = match (settings.by, identity) {
                (LimitBy::Connection, _) => None,
                (LimitBy::User, Some(identity)) => Some(rate.key(key::user(identity, client))),
                (LimitBy::Ip, _) | (LimitBy::User, None) => Some(rate.key(key::address(client))),
            };
            Some(Meter::new(limit, *settings, key))
        };
        let (messages, bytes) = (meter(Limit::Messages, &self.messages), meter(Limit::Bytes, &self.bytes));
        let limited = messages.is_some() || bytes.is_some();
        limited.then(|| Box::new(MessageRates::new(Arc::clone(self), messages, bytes)))
    }

    fn refused(&self, limit: Limit) -> Limit {
        self.metrics.count(limit.label(), "refuse");
        limit
    }
}

impl fmt::Debug for RouteLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteLimiter")
    }
}

#[cfg(test)]
mod tests;
