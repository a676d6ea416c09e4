//! `[upstreams.*]`: how endpoints are chosen, and which are well.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    super::{
        leaf::{At, Table},
        pattern::is_plain_path,
        raw::{RawAffinityCookie, RawBalance, RawHealthCheck, RawOutlierDetection, RawUpstream},
        types::{AffinityCookie, Balance, HashOn, HealthCheck, OutlierDetection, Probe},
    },
    Checker,
};
use crate::http_head::is_token;

const DNS_PORT: u16 = 53;
const MAX_THRESHOLD: usize = 100;
const MAX_CONSECUTIVE_FAILURES: usize = 1_000_000;
/// Longer names of cookies, parameters and claims are mistakes.
const MAX_NAME_BYTES: usize = 256;

const A_HASH_KEY: &str =
    "\"client_ip\", or \"header:\", \"query:\", \"cookie:\" or \"claim:\" with a name, such as \"header:x-user-id\"";

impl Checker<'_> {
    pub(super) fn balance(&mut self, at: &At<Table<RawUpstream>>, default: Balance) -> Balance {
        let raw = &at.value;
        let hash_on = raw.hash_on.as_ref().and_then(|at| self.hash_on(at));
        let ring = matches!(raw.balance.as_ref().map(|word| word.0), Some(RawBalance::RingHash));
        if let Some(at) = raw.hash_on.as_ref().filter(|_| !ring) {
            self.refuse(at, "it is for balance = \"ring_hash\"; write that, or remove this");
        }
        match raw.balance.as_ref().map(|word| word.0) {
            None => default,
            Some(RawBalance::LeastConn) => Balance::LeastConn,
            Some(RawBalance::RoundRobin) => Balance::RoundRobin,
            Some(RawBalance::Random) => Balance::Random,
            Some(RawBalance::RingHash) => {
                if raw.hash_on.is_none() {
                    self.refuse_key(Some(at), "hash_on", &format!("missing; write {A_HASH_KEY}"));
                }
                Balance::RingHash(hash_on.unwrap_or(HashOn::ClientIp))
            }
        }
    }

    fn hash_on(&mut self, at: &At<String>) -> Option<HashOn> {
        let parsed = match at.value.split_once(':') {
            None if at.value == "client_ip" => Some(HashOn::ClientIp),
            Some(("header", name)) => name.parse().ok().map(HashOn::Header),
            Some(("cookie", name)) if is_token(name) => Some(HashOn::Cookie(name.to_owned())),
            Some(("query", name)) if is_name(name) => Some(HashOn::Query(name.to_owned())),
            Some(("claim", name)) if is_name(name) => Some(HashOn::Claim(name.to_owned())),
            None | Some(_) => None,
        };
        if parsed.is_none() {
            self.refuse_as(at, format!("accepted; write {A_HASH_KEY}"));
        }
        parsed
    }

    pub(super) fn affinity_cookie(&mut self, at: &At<Table<RawAffinityCookie>>) -> AffinityCookie {
        let raw = &at.value;
        if let Some(name) = raw.name.as_ref().filter(|name| !is_token(&name.value) || !is_name(&name.value)) {
            self.refuse_as(name, "a name of a cookie (RFC 6265 section 4.1); write letters and digits");
        }
        AffinityCookie {
            name: raw.name.as_ref().map_or_else(|| "wsgate".to_owned(), |name| name.value.clone()),
            max_age: self.time_or_off(raw.max_age.as_ref(), None),
        }
    }

    pub(super) fn health_check(&mut self, at: &At<Table<RawHealthCheck>>) -> HealthCheck {
        let raw = &at.value;
        let (shortest, shortest_interval) = (Duration::from_millis(1), Duration::from_millis(10));
        if let (Some(_), Some(at)) = (&raw.path, &raw.websocket) {
            self.refuse(at, "there is a path too; one kind of check is made, remove the other");
        }
        let probe = match (&raw.path, &raw.websocket) {
            (Some(at), _) => Probe::Http(self.asked_path(at)),
            (None, Some(at)) => Probe::WebSocket(self.asked_path(at)),
            (None, None) => Probe::Connect,
        };
        HealthCheck {
            probe,
            interval: self.time(raw.interval.as_ref(), Duration::from_secs(5), shortest_interval),
            timeout: self.time(raw.timeout.as_ref(), Duration::from_secs(1), shortest),
            healthy_threshold: small(self.count(raw.healthy_threshold.as_ref(), 2, 1..=MAX_THRESHOLD)),
            unhealthy_threshold: small(self.count(raw.unhealthy_threshold.as_ref(), 3, 1..=MAX_THRESHOLD)),
        }
    }

    fn asked_path(&mut self, at: &At<String>) -> String {
        let path = at.value.split_once('?').map_or(&*at.value, |(path, _)| path);
        let whole = at.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !whole || !is_plain_path(path) {
            self.refuse_as(at, "a path; write one such as \"/health\"");
        }
        at.value.clone()
    }

    pub(super) fn outlier_detection(&mut self, raw: &RawOutlierDetection) -> Option<OutlierDetection> {
        let default = OutlierDetection::default();
        let failures = match raw.consecutive_failures.as_ref() {
            None => Some(default.consecutive_failures),
            Some(at) => at.value.0.map(|count| {
                if !(1..=MAX_CONSECUTIVE_FAILURES).contains(&count) {
                    let most = MAX_CONSECUTIVE_FAILURES;
                    self.refuse_as(at, format!("accepted; write \"off\" or a number from 1 to {most}"));
                }
                small(count)
            }),
        };
        let base_ejection_time =
            self.time(raw.base_ejection_time.as_ref(), default.base_ejection_time, Duration::from_millis(1));
        let percent = self.count(raw.max_ejection_percent.as_ref(), 50, 0..=100);
        failures.map(|consecutive_failures| OutlierDetection {
            consecutive_failures,
            base_ejection_time,
            max_ejection_percent: small(percent),
        })
    }

    pub(super) fn resolver(&mut self, at: &At<String>) -> Option<SocketAddr> {
        let with_port = at.value.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        let found = with_port.or_else(|| Some(SocketAddr::new(at.value.parse::<IpAddr>().ok()?, DNS_PORT)));
        if found.is_none() {
            self.refuse_as(
                at,
                "an address of a DNS server; write an IP address, such as \"127.0.0.1\" or \"[::1]:8600\"",
            );
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
