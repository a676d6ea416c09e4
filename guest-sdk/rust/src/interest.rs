//! What a filter asks to be called for.

use std::time::Duration;

use serde::Deserialize;

use crate::{Direction, Hooks, Interest, Kinds};

impl Interest {
    /// Every hook and every kind of message, and no ticks. The default of [`Filter::interest`](crate::Filter::interest).
    pub const fn all() -> Self {
        Self { hooks: Hooks::all(), kinds: Kinds::all(), tick_ms: None }
    }

    /// Nothing: a filter that only judges handshakes.
    pub const fn none() -> Self {
        Self { hooks: Hooks::empty(), kinds: Kinds::empty(), tick_ms: None }
    }

    /// Messages of both kinds in these directions, and no other hook. What topics deliver is among the messages to the
    /// client.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// let interest = Interest::messages(Directions::ToUpstream).text_only();
    /// assert_eq!(interest.hooks, Hooks::TO_UPSTREAM);
    /// assert_eq!(interest.kinds, Kinds::TEXT);
    /// ```
    pub const fn messages(directions: Directions) -> Self {
        let hooks = match directions {
            Directions::ToUpstream => Hooks::TO_UPSTREAM,
            Directions::ToClient => Hooks::TO_CLIENT,
            Directions::Both => Hooks::TO_UPSTREAM.union(Hooks::TO_CLIENT),
        };
        Self { hooks, kinds: Kinds::all(), tick_ms: None }
    }

    /// The same, and these hooks as well.
    #[must_use]
    pub const fn and(mut self, hooks: Hooks) -> Self {
        self.hooks = self.hooks.union(hooks);
        self
    }

    /// The same, for text messages only.
    #[must_use]
    pub const fn text_only(mut self) -> Self {
        self.kinds = Kinds::TEXT;
        self
    }

    /// The same, for binary messages only.
    #[must_use]
    pub const fn binary_only(mut self) -> Self {
        self.kinds = Kinds::BINARY;
        self
    }

    /// The same, with a call of [`Filter::on_tick`](crate::Filter::on_tick) once in every `period`, in whole
    /// milliseconds. The gateway ticks at most every 10 ms; a period of more than `u32::MAX` ms (49 days) is cut to it.
    #[must_use]
    pub fn with_tick(mut self, period: Duration) -> Self {
        let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        self.tick_ms = Some(millis);
        self
    }
}

impl Default for Interest {
    fn default() -> Self {
        Self::all()
    }
}

/// One direction or both, as configurations name them: `"to_upstream"`, `"to_client"` or `"both"`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// What clients send.
    ToUpstream,
    /// What clients receive.
    ToClient,
    /// All messages.
    #[default]
    Both,
}

impl Directions {
    /// Whether `direction` is one of these.
    pub const fn contain(self, direction: Direction) -> bool {
        match self {
            Self::ToUpstream => matches!(direction, Direction::ToUpstream),
            Self::ToClient => matches!(direction, Direction::ToClient),
            Self::Both => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_leaves_out_only_ticks() {
        let Interest { hooks, kinds, tick_ms } = Interest::default();
        assert_eq!((hooks, kinds, tick_ms), (Hooks::all(), Kinds::all(), None));
    }

    #[test]
    fn hooks_and_kinds_are_narrowed() {
        let interest = Interest::messages(Directions::Both).binary_only().and(Hooks::CLOSE);
        assert_eq!(interest.hooks, Hooks::TO_UPSTREAM | Hooks::TO_CLIENT | Hooks::CLOSE);
        assert_eq!(interest.kinds, Kinds::BINARY);
    }

    #[test]
    fn a_tick_period_stays_within_its_type() {
        let tick = |period| Interest::none().with_tick(period).tick_ms;
        assert_eq!(tick(Duration::from_secs(30)), Some(30_000));
        assert_eq!(tick(Duration::from_micros(1)), Some(0));
        assert_eq!(tick(Duration::MAX), Some(u32::MAX));
    }

    #[test]
    fn directions_are_named_in_snake_case() {
        let read = |text| serde_json::from_str::<Directions>(text);
        assert_eq!(read(r#""to_upstream""#).unwrap(), Directions::ToUpstream);
        assert_eq!(read(r#""both""#).unwrap(), Directions::Both);
        assert!(read(r#""ToClient""#).is_err());
    }

    #[test]
    fn both_directions_contain_each() {
        assert!(Directions::Both.contain(Direction::ToUpstream) && Directions::Both.contain(Direction::ToClient));
        assert!(Directions::ToClient.contain(Direction::ToClient));
        assert!(!Directions::ToClient.contain(Direction::ToUpstream));
    }
}
