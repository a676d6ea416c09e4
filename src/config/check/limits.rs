//! `[server.limits]` and `[routes.limits]`

use std::{ops::RangeInclusive, time::Duration};

use super::{
    super::{
        leaf::{At, Count, Table},
        raw::{RawByteLimit, RawMessageLimit, RawRate, RawRoute, RawServerLimits},
        types::{ConnectionLimits, LimitAction, LimitBy, RateLimit, RouteLimits},
        units::show_size,
    },
    Checker,
};

/// More connections than one machine has.
const MAX_CONNECTIONS: usize = 100_000_000;
/// Above this a limiter's clock, which counts nanoseconds, is not exact to a tenth of a percent.
const MAX_MESSAGES_PER_SECOND: usize = 1_000_000;
const MAX_BYTES_PER_SECOND: u64 = 100 << 30;
const MAX_BURST: RangeInclusive<usize> = 1..=1_000_000_000;
const MAX_BURST_BYTES: usize = 64 << 30;
const DEFAULT_CODE: u16 = 4429;

impl Checker<'_> {
    pub(super) fn server_limits(&mut self, raw: &RawServerLimits) -> ConnectionLimits {
        ConnectionLimits {
            connections: self.limit(raw.connections.as_ref(), MAX_CONNECTIONS),
            connections_per_ip: self.limit(raw.connections_per_ip.as_ref(), MAX_CONNECTIONS),
            handshakes_per_second: self.limit(raw.handshakes_per_second.as_ref(), MAX_MESSAGES_PER_SECOND),
            ..ConnectionLimits::default()
        }
    }

    pub(super) fn route_limits(&mut self, route: &RawRoute, client_max_payload_bytes: usize) -> RouteLimits {
        let raw = &route.limits;
        let open = route.auth.as_ref().is_none_or(|auth| auth.value == "none");
        if open && let Some(at) = &raw.connections_per_user {
            self.refuse(at, "nobody on this route has a name; set auth, or use connections_per_ip");
        }
        let connections = ConnectionLimits {
            connections: self.limit(raw.connections.as_ref(), MAX_CONNECTIONS),
            connections_per_ip: self.limit(raw.connections_per_ip.as_ref(), MAX_CONNECTIONS),
            connections_per_user: self.limit(raw.connections_per_user.as_ref(), MAX_CONNECTIONS),
            handshakes_per_second: self.limit(raw.handshakes_per_second.as_ref(), MAX_MESSAGES_PER_SECOND),
            handshakes_per_second_per_ip: self
                .limit(raw.handshakes_per_second_per_ip.as_ref(), MAX_MESSAGES_PER_SECOND),
        };
        RouteLimits {
            connections,
            messages: raw.messages.as_ref().and_then(|at| self.messages(at, open)),
            bytes: raw.bytes.as_ref().and_then(|at| self.bytes(at, open, client_max_payload_bytes)),
        }
    }

    fn limit(&mut self, raw: Option<&At<Count>>, most: usize) -> Option<usize> {
        raw.map(|at| self.count(Some(at), 1, 1..=most))
    }

    fn messages(&mut self, at: &At<Table<RawMessageLimit>>, open: bool) -> Option<RateLimit> {
        let raw = &at.value;
        let Some(rate) = &raw.rate else {
            self.refuse_key(Some(at), "rate", "missing; write a number and a time, such as \"50/s\"");
            return None;
        };
        let (amount, per) = rate.value.0;
        let per_second = amount / per.as_secs().max(1);
        if amount == 0 || per_second > MAX_MESSAGES_PER_SECOND as u64 {
            self.refuse_as(rate, format!("accepted; write from \"1/h\" to \"{MAX_MESSAGES_PER_SECOND}/s\""));
            return None;
        }
        let burst = self.count(raw.burst.as_ref(), usize::try_from(per_second).unwrap_or(1).max(1), MAX_BURST);
        Some(self.rate(raw.common(), amount, per, burst as u64, open))
    }

    fn bytes(&mut self, at: &At<Table<RawByteLimit>>, open: bool, largest: usize) -> Option<RateLimit> {
        let raw = &at.value;
        let Some(rate) = &raw.rate else {
            self.refuse_key(Some(at), "rate", "missing; write a size and a time, such as \"64KiB/s\"");
            return None;
        };
        let (amount, per) = rate.value.0;
        let per_second = amount / per.as_secs().max(1);
        if amount == 0 || per_second > MAX_BYTES_PER_SECOND {
            let most = show_size(usize::try_from(MAX_BYTES_PER_SECOND).unwrap_or(usize::MAX));
            self.refuse_as(rate, format!("accepted; write from \"1B/h\" to \"{most}/s\""));
            return None;
        }
        let default = usize::try_from(per_second).unwrap_or(usize::MAX).max(largest);
        let burst = self.size(raw.burst.as_ref(), default, 1..=MAX_BURST_BYTES);
        if let Some(burst_at) = &raw.burst
            && burst < largest
        {
            let least = show_size(largest);
            self.refuse_as(burst_at, format!("accepted; write at least {least:?}, which is client_max_payload"));
        }
        Some(self.rate(raw.common(), amount, per, burst as u64, open))
    }

    fn rate(&mut self, raw: RawRate<'_>, amount: u64, per: Duration, burst: u64, open: bool) -> RateLimit {
        let by = raw.by.as_ref().map_or(LimitBy::Connection, |at| at.value.0);
        if let Some(at) = raw.by
            && open
            && by == LimitBy::User
        {
            self.refuse(at, "nobody on this route has a name; set auth, or write by = \"ip\"");
        }
        let action = raw.action.as_ref().map_or(LimitAction::Delay, |word| word.0);
        if let Some(at) = raw.code
            && action != LimitAction::Close
        {
            self.warn(at, "nothing is closed by this limit; it is for action = \"close\"");
        }
        RateLimit { amount, per, burst, by, action, code: self.close_code(raw.code.as_ref(), DEFAULT_CODE) }
    }
}
