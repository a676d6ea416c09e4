//! What a filter wants to be called for.

use std::time::Duration;

use super::bindings::wsgate::filter::types::{Hooks, Interest as Declared, Kinds};
use crate::message::{Direction, Kind};

/// A filter that asks for more is ticked this often.
pub(super) const MIN_TICK: Duration = Duration::from_millis(10);

/// `interest` of the contract, made quick to ask.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Interest {
    mask: u8,
    tick: Option<Duration>,
}

const CLOSE: u8 = 1 << 6;
const IDENTITY: u8 = 1 << 7;

fn bit(direction: Direction, kind: Kind) -> u8 {
    match (direction, kind) {
        (Direction::ToUpstream, Kind::Text) => 1 << 0,
        (Direction::ToUpstream, Kind::Binary) => 1 << 1,
        (Direction::ToClient, Kind::Text) => 1 << 2,
        (Direction::ToClient, Kind::Binary) => 1 << 3,
    }
}

fn delivery_bit(kind: Kind) -> u8 {
    match kind {
        Kind::Text => 1 << 4,
        Kind::Binary => 1 << 5,
    }
}

impl Interest {
    pub(super) fn new(declared: &Declared) -> Self {
        let mut mask = 0;
        for (kind, flag) in [(Kind::Text, Kinds::TEXT), (Kind::Binary, Kinds::BINARY)] {
            if !declared.kinds.contains(flag) {
                continue;
            }
            if declared.hooks.contains(Hooks::TO_UPSTREAM) {
                mask |= bit(Direction::ToUpstream, kind);
            }
            if declared.hooks.contains(Hooks::TO_CLIENT) {
                mask |= bit(Direction::ToClient, kind);
            }
            if declared.hooks.contains(Hooks::DELIVERY) {
                mask |= delivery_bit(kind);
            }
        }
        if declared.hooks.contains(Hooks::CLOSE) {
            mask |= CLOSE;
        }
        if declared.hooks.contains(Hooks::IDENTITY) {
            mask |= IDENTITY;
        }
        let tick = declared.tick_ms.map(|ms| Duration::from_millis(ms.into()).max(MIN_TICK));
        Self { mask, tick }
    }

    /// `on-message` of this direction and kind.
    pub(super) fn message(self, direction: Direction, kind: Kind) -> bool {
        self.mask & bit(direction, kind) != 0
    }

    /// `on-delivery` of this kind.
    pub(super) fn delivery(self, kind: Kind) -> bool {
        self.mask & delivery_bit(kind) != 0
    }

    /// `on-close`.
    pub(super) fn close(self) -> bool {
        self.mask & CLOSE != 0
    }

    /// `on-identity`.
    pub(super) fn identity(self) -> bool {
        self.mask & IDENTITY != 0
    }

    /// `on-tick`, this often.
    pub(super) fn tick(self) -> Option<Duration> {
        self.tick
    }
}
