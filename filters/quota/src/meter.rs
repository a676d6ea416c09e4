//! How much of one quota a connection may still use.

use serde::{Deserialize, Serialize};
use wsgate_sdk::prelude::*;

use crate::{config::Quota, counter::Counter, window::Window};

/// How long what the store said is believed: a client that goes on beyond its limit costs a call a second, and what other
/// connections use up is heard of this late.
const BELIEVED_MS: u64 = 1000;

/// One quota, as a connection sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meter {
    window: Window,
    /// Units taken out of the counter and not used yet.
    reserved: u64,
    /// What the counter said last, and when.
    total: u64,
    asked_ms: u64,
    /// Whether it was refused then.
    exhausted: bool,
    warned: bool,
    /// Whether anything was used since the last tick.
    active: bool,
}

/// A quota of a user.
pub(crate) struct Account<'a> {
    pub(crate) store: &'a str,
    pub(crate) quota: &'a Quota,
    pub(crate) user: &'a str,
}

impl Account<'_> {
    fn counter(&self, window: Window) -> Counter<'_> {
        Counter { store: self.store, quota: self.quota, user: self.user, window }
    }
}

impl Meter {
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Begins anew where the time is over. What was reserved went with the old window.
    fn roll(&mut self, quota: &Quota, now_ms: u64) {
        if !self.window.contains(now_ms) {
            *self = Self { window: quota.window.window(now_ms), ..Self::default() };
        }
    }

    fn believed(&self, now_ms: u64) -> bool {
        self.asked_ms > 0 && now_ms.saturating_sub(self.asked_ms) < BELIEVED_MS
    }

    /// Whether so many units can be used: they are reserved then, and taken by [`Meter::take`].
    pub(crate) fn has(&mut self, units: u64, of: &Account<'_>, now_ms: u64) -> Result<bool, Error> {
        self.roll(of.quota, now_ms);
        if self.reserved >= units {
            return Ok(true);
        }
        if self.exhausted && self.believed(now_ms) {
            return Ok(false);
        }
        let limit = of.quota.limit;
        let missing = units - self.reserved;
        // In advance only while much is left, as far as is known: what is reserved here others cannot use.
        let much_left = self.asked_ms > 0 && limit.saturating_sub(self.total) > limit / 10;
        let wanted = if much_left { missing.max(of.quota.batch()) } else { missing };
        let counter = of.counter(self.window);
        let mut total = counter.add(signed(wanted), now_ms)?;
        let granted = total <= limit;
        if granted {
            self.reserved += wanted;
        } else {
            total = counter.add(-signed(wanted), now_ms)?;
        }
        (self.total, self.asked_ms) = (total, now_ms);
        if !granted && wanted > missing {
            // Others were faster: without the batch there may be enough.
            return self.has(units, of, now_ms);
        }
        self.exhausted = !granted;
        Ok(granted)
    }

    pub(crate) fn take(&mut self, units: u64) {
        self.reserved = self.reserved.saturating_sub(units);
        self.active = true;
    }

    /// Counts what was used already.
    pub(crate) fn count(&mut self, units: u64, of: &Account<'_>, now_ms: u64) -> Result<(), Error> {
        self.roll(of.quota, now_ms);
        self.total = of.counter(self.window).add(signed(units), now_ms)?;
        self.asked_ms = now_ms;
        Ok(())
    }

    /// Whether anything is left of what is counted afterwards.
    pub(crate) fn is_left(&mut self, of: &Account<'_>, now_ms: u64) -> Result<bool, Error> {
        self.roll(of.quota, now_ms);
        if !self.believed(now_ms) {
            self.total = of.counter(self.window).read()?;
            self.asked_ms = now_ms;
        }
        Ok(self.total < of.quota.limit)
    }

    /// Whether the warning is to be given now: once in a window.
    pub(crate) fn warns(&mut self, quota: &Quota) -> bool {
        let due = !self.warned && quota.warn_at.is_some_and(|at| self.total.saturating_sub(self.reserved) >= at);
        self.warned |= due;
        due
    }

    /// Gives back what is reserved, at the end or where it lay unused since the last tick.
    pub(crate) fn give_back(&mut self, only_idle: bool, of: &Account<'_>, now_ms: u64) -> Result<(), Error> {
        let active = std::mem::take(&mut self.active);
        if self.reserved == 0 || (only_idle && active) || !self.window.contains(now_ms) {
            return Ok(());
        }
        let reserved = std::mem::take(&mut self.reserved);
        self.total = of.counter(self.window).add(-signed(reserved), now_ms)?;
        self.asked_ms = now_ms;
        Ok(())
    }
}

/// Limits and messages are far below 2^63.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
