//! Every way in which a session can end, and what each means to both peers, the metrics and the log.

use std::sync::Arc;

use super::scan::Violation;
use crate::{filter::Closer, limit::Limit, message::CloseFrame};

/// Why a session ended. Matched without `_`: a new end must say what it means everywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionEnd {
    /// The client sent a Close frame.
    ClientClosed(CloseFrame),
    /// The upstream sent a Close frame.
    UpstreamClosed(CloseFrame),
    /// The client's stream ended without a Close frame.
    ClientVanished,
    /// The upstream's stream ended without a Close frame.
    UpstreamVanished,
    /// An upstream that filters `route` messages to sent a Close frame with a code of its own.
    RoutedClosed {
        /// Which.
        upstream: Arc<str>,
        /// What it said.
        frame: CloseFrame,
    },
    /// An upstream that filters `route` messages to cannot be reached, broke off, broke the protocol or went silent.
    RoutedLost {
        /// Which.
        upstream: Arc<str>,
    },
    /// The client broke the protocol or a limit of it.
    ClientViolated(Violation),
    /// The upstream broke the protocol or a limit of it.
    UpstreamViolated(Violation),
    /// A filter's verdict.
    FilterClosed {
        /// Which filter.
        filter: Arc<str>,
        /// What the client is told.
        frame: CloseFrame,
    },
    /// A filter of another connection closed this one.
    Dismissed {
        /// Which filter.
        filter: Arc<str>,
        /// What the client is told.
        frame: CloseFrame,
    },
    /// A filter failed under `fail_closed`, or lost its state under `on_state_loss = "close"`.
    FilterFault {
        /// Which filter.
        filter: Arc<str>,
    },
    /// No pong from the client in time.
    ClientPongTimeout,
    /// No pong from the upstream in time.
    UpstreamPongTimeout,
    /// The client took no byte for `send_timeout`.
    ClientSendTimeout,
    /// The upstream took no byte for `send_timeout`.
    UpstreamSendTimeout,
    /// The client's queue was full and the overflow policy says to close.
    ClientOverflow,
    /// The upstream's queue was full and the overflow policy says to close.
    UpstreamOverflow,
    /// No message either way for `idle_timeout`.
    IdleTimeout,
    /// `max_connection_duration` is over.
    MaxDuration,
    /// The client's token ran out.
    TokenExpired {
        /// As configured.
        code: u16,
    },
    /// The client's token, login or subject was revoked.
    TokenRevoked {
        /// As configured for a token that runs out.
        code: u16,
    },
    /// The client sent a new token that does not count.
    TokenRefused,
    /// The client sent a new token, and there are no keys to check it with.
    TokenUnverifiable,
    /// The client sent a new token of somebody else.
    IdentityChanged,
    /// The client sent more than a limit with `action = "close"` allows.
    RateLimited {
        /// Which.
        limit: Limit,
        /// As configured.
        code: u16,
    },
    /// The gateway drains.
    Drained,
    /// Another configuration has no such route, or one that would have treated the connection differently.
    RouteChanged,
    /// By another configuration the connection would have been refused.
    NoLongerAllowed,
}

impl SessionEnd {
    /// What the client is told; nothing where nobody is there to hear it.
    #[must_use]
    pub fn client_frame(&self) -> Option<CloseFrame> {
        match self {
            Self::ClientClosed(frame) | Self::UpstreamClosed(frame) | Self::RoutedClosed { frame, .. } => {
                Some(relayed(frame))
            }
            Self::ClientVanished => None,
            Self::UpstreamVanished | Self::RoutedLost { .. } => Some(CloseFrame::new(1011, "upstream connection lost")),
            Self::ClientViolated(violation) => Some(violation.close_frame()),
            Self::UpstreamViolated(_) => Some(CloseFrame::new(1011, "upstream protocol error")),
            Self::FilterClosed { frame, .. } | Self::Dismissed { frame, .. } => Some(frame.clone()),
            Self::FilterFault { .. } => Some(CloseFrame::new(1011, "internal error")),
            Self::ClientPongTimeout => Some(CloseFrame::new(1001, "no pong in time")),
            Self::UpstreamPongTimeout | Self::UpstreamSendTimeout | Self::UpstreamOverflow => {
                Some(CloseFrame::new(1011, "upstream does not respond"))
            }
            Self::ClientSendTimeout => Some(CloseFrame::new(1008, "too slow")),
            Self::ClientOverflow => Some(CloseFrame::new(1013, "too slow, try again later")),
            Self::IdleTimeout => Some(CloseFrame::new(1001, "idle")),
            Self::MaxDuration => Some(CloseFrame::new(1001, "connection duration limit")),
            Self::TokenExpired { code } => Some(CloseFrame::new(*code, "token expired")),
            Self::TokenRevoked { code } => Some(CloseFrame::new(*code, "token revoked")),
            Self::TokenRefused => Some(CloseFrame::new(4401, "token refused")),
            Self::TokenUnverifiable => Some(CloseFrame::new(1013, "token cannot be checked, try again later")),
            Self::IdentityChanged => Some(CloseFrame::new(4403, "identity changed")),
            Self::RateLimited { limit, code } => Some(CloseFrame::new(
                *code,
                match limit {
                    Limit::Bytes => "too many bytes",
                    Limit::Messages
                    | Limit::Connections
                    | Limit::ConnectionsPerIp
                    | Limit::ConnectionsPerUser
                    | Limit::Handshakes
                    | Limit::HandshakesPerIp => "too many messages",
                },
            )),
            Self::Drained => Some(CloseFrame::new(1001, "going away")),
            Self::RouteChanged => Some(CloseFrame::new(1001, "configuration changed")),
            Self::NoLongerAllowed => Some(CloseFrame::new(4403, "no longer allowed")),
        }
    }

    /// What the upstream is told.
    #[must_use]
    pub fn upstream_frame(&self) -> Option<CloseFrame> {
        match self {
            Self::ClientClosed(frame) | Self::UpstreamClosed(frame) => Some(relayed(frame)),
            Self::ClientVanished | Self::ClientPongTimeout => Some(CloseFrame::new(1001, "client is gone")),
            Self::UpstreamVanished => None,
            Self::RoutedClosed { .. } | Self::RoutedLost { .. } => Some(CloseFrame::new(1001, "going away")),
            Self::ClientViolated(Violation::Protocol | Violation::Utf8) => {
                Some(CloseFrame::new(1002, "client protocol error"))
            }
            Self::ClientViolated(Violation::TooBig | Violation::Flood)
            | Self::ClientSendTimeout
            | Self::ClientOverflow
            | Self::RateLimited { .. }
            | Self::IdleTimeout
            | Self::MaxDuration => Some(CloseFrame::new(1008, "closed by a limit")),
            Self::TokenExpired { .. }
            | Self::TokenRevoked { .. }
            | Self::TokenRefused
            | Self::TokenUnverifiable
            | Self::IdentityChanged
            | Self::NoLongerAllowed => Some(CloseFrame::new(1008, "closed by policy")),
            Self::UpstreamViolated(violation) => Some(violation.close_frame()),
            Self::FilterClosed { .. } | Self::Dismissed { .. } | Self::FilterFault { .. } => {
                Some(CloseFrame::new(1008, "closed by policy"))
            }
            Self::UpstreamPongTimeout => Some(CloseFrame::new(1001, "no pong in time")),
            Self::UpstreamSendTimeout => Some(CloseFrame::new(1008, "too slow")),
            Self::UpstreamOverflow => Some(CloseFrame::new(1013, "too slow, try again later")),
            Self::Drained | Self::RouteChanged => Some(CloseFrame::new(1001, "going away")),
        }
    }

    /// Who ended it, as filters hear it.
    #[must_use]
    pub fn closer(&self) -> Closer {
        match self {
            Self::ClientClosed(_) | Self::ClientVanished => Closer::Client,
            Self::UpstreamClosed(_) | Self::UpstreamVanished | Self::RoutedClosed { .. } | Self::RoutedLost { .. } => {
                Closer::Upstream
            }
            Self::FilterClosed { .. } | Self::Dismissed { .. } | Self::FilterFault { .. } => Closer::Filter,
            Self::ClientViolated(_)
            | Self::UpstreamViolated(_)
            | Self::ClientPongTimeout
            | Self::UpstreamPongTimeout
            | Self::ClientSendTimeout
            | Self::UpstreamSendTimeout
            | Self::ClientOverflow
            | Self::UpstreamOverflow
            | Self::IdleTimeout
            | Self::MaxDuration
            | Self::TokenExpired { .. }
            | Self::TokenRevoked { .. }
            | Self::TokenRefused
            | Self::TokenUnverifiable
            | Self::IdentityChanged
            | Self::RateLimited { .. }
            | Self::Drained
            | Self::RouteChanged
            | Self::NoLongerAllowed => Closer::Gateway,
        }
    }

    /// Who ended it: the label `by` of `closes_total`.
    #[must_use]
    pub fn by(&self) -> &'static str {
        match self.closer() {
            Closer::Client => "client",
            Closer::Upstream => "upstream",
            Closer::Gateway => "gateway",
            Closer::Filter => "filter",
        }
    }

    /// The reason in the access log: one word for each end.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed(_) => "client_closed",
            Self::UpstreamClosed(_) => "upstream_closed",
            Self::ClientVanished => "client_vanished",
            Self::UpstreamVanished => "upstream_vanished",
            Self::RoutedClosed { .. } => "routed_upstream_closed",
            Self::RoutedLost { .. } => "routed_upstream_lost",
            Self::ClientViolated(Violation::Protocol) => "client_protocol_error",
            Self::ClientViolated(Violation::Utf8) => "client_invalid_utf8",
            Self::ClientViolated(Violation::TooBig) => "client_message_too_big",
            Self::ClientViolated(Violation::Flood) => "client_frame_flood",
            Self::UpstreamViolated(Violation::Protocol) => "upstream_protocol_error",
            Self::UpstreamViolated(Violation::Utf8) => "upstream_invalid_utf8",
            Self::UpstreamViolated(Violation::TooBig) => "upstream_message_too_big",
            Self::UpstreamViolated(Violation::Flood) => "upstream_frame_flood",
            Self::FilterClosed { .. } => "filter_closed",
            Self::Dismissed { .. } => "filter_dismissed",
            Self::FilterFault { .. } => "filter_fault",
            Self::ClientPongTimeout => "client_pong_timeout",
            Self::UpstreamPongTimeout => "upstream_pong_timeout",
            Self::ClientSendTimeout => "client_send_timeout",
            Self::UpstreamSendTimeout => "upstream_send_timeout",
            Self::ClientOverflow => "client_overflow",
            Self::UpstreamOverflow => "upstream_overflow",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxDuration => "max_connection_duration",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::TokenRefused => "token_refused",
            Self::TokenUnverifiable => "token_unverifiable",
            Self::IdentityChanged => "identity_changed",
            Self::RateLimited { .. } => "rate_limited",
            Self::Drained => "drained",
            Self::RouteChanged => "route_changed",
            Self::NoLongerAllowed => "no_longer_allowed",
        }
    }

    /// Is it worth a warning? Ends that somebody should look at are.
    #[must_use]
    pub fn is_worrying(&self) -> bool {
        match self {
            Self::UpstreamVanished
            | Self::RoutedLost { .. }
            | Self::UpstreamViolated(_)
            | Self::FilterFault { .. }
            | Self::UpstreamPongTimeout
            | Self::UpstreamSendTimeout
            | Self::UpstreamOverflow => true,
            Self::ClientClosed(_)
            | Self::UpstreamClosed(_)
            | Self::RoutedClosed { .. }
            | Self::ClientVanished
            | Self::ClientViolated(_)
            | Self::FilterClosed { .. }
            | Self::Dismissed { .. }
            | Self::ClientPongTimeout
            | Self::ClientSendTimeout
            | Self::ClientOverflow
            | Self::IdleTimeout
            | Self::MaxDuration
            | Self::TokenExpired { .. }
            | Self::TokenRevoked { .. }
            | Self::TokenRefused
            | Self::TokenUnverifiable
            | Self::IdentityChanged
            | Self::RateLimited { .. }
            | Self::Drained
            | Self::RouteChanged
            | Self::NoLongerAllowed => false,
        }
    }

    /// The code in metrics and in `on-close`: what the client sent or was sent; 1006 where neither was.
    #[must_use]
    pub fn frame(&self) -> CloseFrame {
        match self {
            Self::ClientClosed(frame) => frame.clone(),
            other => other.client_frame().unwrap_or_else(|| CloseFrame::new(1006, "")),
        }
    }
}

/// A peer's Close frame as the other peer gets it, and as it is answered where the other peer is silent (RFC 6455
/// section 5.5.1: usually the same code). 1014 says something about a gateway and its upstream that the
/// receiver cannot act on.
fn relayed(frame: &CloseFrame) -> CloseFrame {
    match frame.code {
        Some(1014) => CloseFrame { code: Some(1011), reason: frame.reason.clone() },
        _ => frame.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_gateway_is_never_relayed() {
        let end = SessionEnd::UpstreamClosed(CloseFrame::new(1014, "x"));
        assert_eq!(end.client_frame(), Some(CloseFrame::new(1011, "x")));
    }

    #[test]
    fn an_application_close_is_relayed_exactly() {
        let frame = CloseFrame::new(4999, "bye");
        assert_eq!(SessionEnd::UpstreamClosed(frame.clone()).client_frame(), Some(frame.clone()));
        assert_eq!(SessionEnd::ClientClosed(frame.clone()).upstream_frame(), Some(frame));
    }

    #[test]
    fn nobody_writes_to_a_peer_that_is_gone() {
        assert_eq!(SessionEnd::ClientVanished.client_frame(), None);
        assert_eq!(SessionEnd::UpstreamVanished.upstream_frame(), None);
        assert_eq!(SessionEnd::ClientVanished.frame().code, Some(1006));
    }
}
