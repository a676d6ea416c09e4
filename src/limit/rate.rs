//! How many in what time: the generic cell rate algorithm, one cell a key.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::{
    Limit, RouteLimiter,
    key::{self, Key},
};
use crate::{
    config::{LimitAction, RateLimit},
    message::Message,
};

/// Keys that are told apart: about 64 MiB. Whoever comes when there are so many shares one of 65,536 with others.
pub(super) const MAX_KEYS: usize = 1_000_000;

/// A rate that many share, each key by itself.
pub(super) struct Rate {
    limiter: DefaultKeyedRateLimiter<Key>,
    quota: Quota,
    /// What one cell of the limiter stands for.
    unit: u64,
    max_keys: usize,
    crowded: AtomicBool,
}

/// The limiter counts nanoseconds: its cells are so large that each lasts a thousand of them.
pub(super) fn unit_bytes(limit: &RateLimit) -> u64 {
    let a_second = limit.amount / limit.per.as_secs().max(1);
    a_second.div_ceil(1_000_000).max(1)
}

impl Rate {
    /// None where there is nothing to limit by, which the configuration rules out.
    pub(super) fn new(amount: u64, per: Duration, burst: u64, unit: u64) -> Option<Self> {
        let period = per.as_nanos() * u128::from(unit) / u128::from(amount.max(1));
        let period = Duration::from_nanos(u64::try_from(period).unwrap_or(u64::MAX).max(1));
        let quota = Quota::with_period(period)?.allow_burst(cells(burst, unit));
        Some(Self {
            limiter: RateLimiter::dashmap(quota),
            quota,
            unit,
            max_keys: MAX_KEYS,
            crowded: AtomicBool::new(false),
        })
    }

    /// The key to use from now on.
    pub(super) fn key(&self, key: Key) -> Key {
        if self.crowded.load(Ordering::Relaxed) { key::folded(&key) } else { key }
    }

    pub(super) fn take(&self, key: &Key) -> bool {
        self.limiter.check_key(key).is_ok()
    }

    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        let crowded = self.limiter.len() >= self.max_keys;
        if crowded != self.crowded.swap(crowded, Ordering::Relaxed) && crowded {
            tracing::warn!(
                keys = self.limiter.len(),
                "too many clients to limit each by itself: new ones share a limit"
            );
        }
        self.limiter.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn with_max_keys(self, max_keys: usize) -> Self {
        Self { max_keys, ..self }
    }

    /// What this time brings.
    #[cfg(test)]
    pub(super) fn granted(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.quota.replenish_interval().as_secs_f64() * self.unit as f64
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.limiter.len()
    }
}

fn cells(amount: u64, unit: u64) -> NonZeroU32 {
    let cells = u32::try_from(amount.div_ceil(unit.max(1))).unwrap_or(u32::MAX);
    NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN)
}

/// One limit as one connection meets it.
pub struct Meter {
    limit: Limit,
    settings: RateLimit,
    of: Of,
}

enum Of {
    /// This connection, from its first message on.
    Connection(Option<Box<DefaultDirectRateLimiter>>),
    Shared(Key),
}

impl Meter {
    /// `key` where others count too.
    pub(super) fn new(limit: Limit, settings: RateLimit, key: Option<Key>) -> Self {
        Self { limit, settings, of: key.map_or(Of::Connection(None), Of::Shared) }
    }

    /// Takes this many; or when to ask again.
    fn take(&mut self, rate: &Rate, amount: u64) -> Result<(), Instant> {
        let cells = cells(amount, rate.unit);
        let taken = match &mut self.of {
            Of::Connection(own) => {
                let own = own.get_or_insert_with(|| Box::new(RateLimiter::direct(rate.quota)));
                own.check_n(cells)
            }
            Of::Shared(key) => rate.limiter.check_key_n(key, cells),
        };
        match taken {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.earliest_possible()),
            // Larger than a burst, which the configuration rules out: a second is as good as any time.
            Err(_) => Err(Instant::now() + Duration::from_secs(1)),
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Eq, PartialEq)]
pub enum Passed {
    /// It goes on.
    Now(Message),
    /// It is kept here until then; [`MessageRates::retry`].
    Delayed,
    /// It is gone.
    Dropped,
    /// The connection ends.
    Close {
        /// Because of this.
        limit: Limit,
        /// As configured.
        code: u16,
    },
}

/// What the messages of one connection are measured with.
pub struct MessageRates {
    limiter: Arc<RouteLimiter>,
    messages: Option<Meter>,
    bytes: Option<Meter>,
    waiting: Option<Waiting>,
}

struct Waiting {
    message: Message,
    until: Instant,
    /// It was counted as a message and waits for its bytes.
    counted: bool,
}

impl MessageRates {
    pub(super) fn new(limiter: Arc<RouteLimiter>, messages: Option<Meter>, bytes: Option<Meter>) -> Self {
        Self { limiter, messages, bytes, waiting: None }
    }

    /// When the message that waits may go on.
    #[must_use]
    pub fn waits_until(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    /// A message has come. None may wait.
    pub fn pass(&mut self, message: Message) -> Passed {
        self.measure(message, false, true)
    }

    /// Asks again for the message that waits, if one does.
    pub fn retry(&mut self) -> Option<Passed> {
        let Waiting { message, counted, .. } = self.waiting.take()?;
        Some(self.measure(message, counted, false))
    }

    fn measure(&mut self, message: Message, counted: bool, first: bool) -> Passed {
        let limiter = Arc::clone(&self.limiter);
        if !counted
            && let Some(meter) = &mut self.messages
            && let Some((_, rate)) = &limiter.messages
            && let Err(until) = meter.take(rate, 1)
        {
            let meter = (meter.limit, meter.settings);
            return self.exceeded(meter, Waiting { message, until, counted: false }, first);
        }
        if let Some(meter) = &mut self.bytes
            && let Some((_, rate)) = &limiter.bytes
            && let Err(until) = meter.take(rate, message.len() as u64)
        {
            let meter = (meter.limit, meter.settings);
            // One that waits for its bytes is counted once, whichever limit held it first.
            return self.exceeded(meter, Waiting { message, until, counted: true }, first);
        }
        Passed::Now(message)
    }

    fn exceeded(&mut self, (limit, settings): (Limit, RateLimit), waiting: Waiting, first: bool) -> Passed {
        let (action, passed) = match settings.action {
            LimitAction::Delay => {
                self.waiting = Some(waiting);
                ("delay", Passed::Delayed)
            }
            LimitAction::Drop => ("drop", Passed::Dropped),
            LimitAction::Close => ("close", Passed::Close { limit, code: settings.code }),
        };
        if first || settings.action != LimitAction::Delay {
            self.limiter.metrics.count(limit.label(), action);
        }
        passed
    }
}
