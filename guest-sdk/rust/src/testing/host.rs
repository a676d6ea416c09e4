//! The gateway's side in a test.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::installed::{self, State};
use super::messaging::Effect;
use super::record::LogLine;
use super::web::Origin;
use crate::http::{Request, Response};
use crate::log::Level;
use crate::{CloseInfo, Message, http, key_value, messaging};

/// Answers a filter's calls to the gateway for as long as it lives, and records them.
///
/// It serves the thread that made it; where a thread has several, the last one made. Like the gateway it denies what is
/// not granted: each `with_` function grants what it names. The clock stands still until it is set.
///
/// ```
/// use wsgate_sdk::prelude::*;
/// use wsgate_sdk::testing;
///
/// fn visit(user: &str) -> Result<i64, Error> {
///     let visits = key_value::increment("visits", user, 1, None)?;
///     messaging::publish("visits", &format!("{user} came").into(), None)?;
///     Ok(visits)
/// }
///
/// let host = testing::Host::new().with_store("visits").with_topic("visits");
/// assert_eq!(visit("ann"), Ok(1));
/// assert_eq!(visit("ann"), Ok(2));
/// assert_eq!(host.text("visits", "ann").as_deref(), Some("2"));
/// assert_eq!(host.published("visits"), ["ann came".into(), "ann came".into()]);
/// ```
///
/// What the gateway knows of a call it does not: the gateway discards messages of a handshake that is refused, counts
/// the calls of one function, and bounds sizes by the route's limits. Connections are taken to exist until
/// [`without_connection`](Host::without_connection) or a close says otherwise.
pub struct Host(Rc<RefCell<State>>);

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// Before the test.
impl Host {
    /// A host that grants nothing, installed for this thread until it is dropped.
    #[must_use = "it answers only as long as it lives"]
    pub fn new() -> Self {
        Self(installed::install())
    }

    /// Grants a key-value store: `allow.key_value`.
    #[must_use]
    pub fn with_store(self, name: &str) -> Self {
        self.0.borrow_mut().stores.entry(name.to_owned()).or_default();
        self
    }

    /// Grants a store and puts an entry into it.
    ///
    /// # Panics
    ///
    /// Where the key or the value is too long.
    #[must_use]
    pub fn with_entry(self, store: &str, key: &str, value: impl AsRef<[u8]>) -> Self {
        let host = self.with_store(store);
        let written = host.store(store, |store| store.set(key, value.as_ref(), None));
        assert!(matches!(written, Some(Ok(_))), "{store}: {key} cannot be written: {written:?}");
        host
    }

    /// Grants topics, by name or by a pattern in which `*` stands for any characters: `allow.topics`.
    #[must_use]
    pub fn with_topic(self, pattern: &str) -> Self {
        self.0.borrow_mut().messaging.topics.push(pattern.to_owned());
        self
    }

    /// Grants sending to single connections and closing them: `allow.send`.
    #[must_use]
    pub fn with_send(self) -> Self {
        self.0.borrow_mut().messaging.may_send = true;
        self
    }

    /// Says that there is no such connection (any more).
    #[must_use]
    pub fn without_connection(self, connection: &str) -> Self {
        self.0.borrow_mut().messaging.gone.insert(connection.to_owned());
        self
    }

    /// Grants an origin, `allow.http`, and answers each request to it. The answer may set the host's clock.
    ///
    /// # Panics
    ///
    /// Where this is no origin such as `https://authz.internal`.
    #[must_use]
    pub fn with_http(
        self,
        origin: &str,
        answer: impl FnMut(&Request) -> Result<Response, http::Error> + 'static,
    ) -> Self {
        self.answer_http(origin, answer);
        self
    }

    /// Grants the origin of a URL and answers each request of this method to this very URL.
    ///
    /// # Panics
    ///
    /// Where this is no URL.
    #[must_use]
    pub fn with_response(self, method: &str, url: &str, answer: Result<Response, http::Error>) -> Self {
        let origin = origin_of(url);
        {
            let web = &mut self.0.borrow_mut().web;
            web.grant(origin);
            web.canned.push((method.to_owned(), url.to_owned(), answer));
        }
        self
    }

    /// Sets the clock, in milliseconds of Unix time. It begins with 2026.
    #[must_use]
    pub fn with_time(self, unix_ms: u64) -> Self {
        self.set_time(unix_ms);
        self
    }

    /// Leaves out log lines below this level.
    #[must_use]
    pub fn with_log_level(self, level: Level) -> Self {
        self.0.borrow_mut().record.level = level;
        self
    }
}

/// During the test.
impl Host {
    /// Sets the clock that people read, in milliseconds of Unix time. Times to live and [`clock`](crate::clock)`::monotonic_ns`
    /// do not heed it.
    pub fn set_time(&self, unix_ms: u64) {
        self.0.borrow_mut().clock.unix_ms = unix_ms;
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let clock = &mut self.0.borrow_mut().clock;
        clock.elapsed = clock.elapsed.saturating_add(time);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        clock.unix_ms = clock.unix_ms.saturating_add(millis);
    }

    /// Does what [`with_http`](Host::with_http) does.
    ///
    /// # Panics
    ///
    /// Where this is no origin such as `https://authz.internal`.
    pub fn answer_http(&self, origin: &str, answer: impl FnMut(&Request) -> Result<Response, http::Error> + 'static) {
        let origin = origin_of(origin);
        self.0.borrow_mut().web.origins.push((origin, Rc::new(RefCell::new(answer))));
    }

    /// Makes every call on a store fail, or work again.
    pub fn fail_store(&self, name: &str, error: Option<key_value::Error>) {
        self.0.borrow_mut().stores.entry(name.to_owned()).or_default().failure = error;
    }

    /// Makes every call of [`messaging`] that is granted fail, or work again.
    pub fn fail_messaging(&self, error: Option<messaging::Error>) {
        self.0.borrow_mut().messaging.failure = error;
    }
}

/// After the test.
impl Host {
    /// What a store has under a key now.
    pub fn entry(&self, store: &str, key: &str) -> Option<key_value::Entry> {
        self.store(store, |store| store.get(key).ok().flatten()).flatten()
    }

    /// The same as text; none also where it is not UTF-8.
    pub fn text(&self, store: &str, key: &str) -> Option<String> {
        String::from_utf8(self.entry(store, key)?.value).ok()
    }

    /// How long a key will still be there; none where it is absent or stays.
    pub fn ttl(&self, store: &str, key: &str) -> Option<Duration> {
        self.store(store, |store| store.ttl(key)).flatten()
    }

    /// The keys of a store, sorted.
    pub fn keys(&self, store: &str) -> Vec<String> {
        self.store(store, |store| store.keys()).unwrap_or_default()
    }

    /// All that was done by [`messaging`], in its order.
    pub fn effects(&self) -> Vec<Effect> {
        self.0.borrow().messaging.effects.clone()
    }

    /// The same, which is forgotten afterwards. Subscriptions stay.
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut self.0.borrow_mut().messaging.effects)
    }

    /// The messages that were published to a topic. [`effects`](Host::effects) says who was left out.
    pub fn published(&self, topic: &str) -> Vec<Message> {
        self.select(|effect| match effect {
            Effect::Publish { topic: other, message, .. } if other == topic => Some(message.clone()),
            _ => None,
        })
    }

    /// The messages that were sent to a connection.
    pub fn sent(&self, connection: &str) -> Vec<Message> {
        self.select(|effect| match effect {
            Effect::Send { to, message } if to == connection => Some(message.clone()),
            _ => None,
        })
    }

    /// How a connection was closed, where it was.
    pub fn closed(&self, connection: &str) -> Option<CloseInfo> {
        let closed = self.select(|effect| match effect {
            Effect::Close { connection: other, info } if other == connection => Some(info.clone()),
            _ => None,
        });
        closed.into_iter().next()
    }

    /// The topics that a connection is subscribed to, sorted.
    pub fn subscriptions(&self, connection: &str) -> Vec<String> {
        let state = self.0.borrow();
        state.messaging.subscriptions.get(connection).into_iter().flatten().cloned().collect()
    }

    /// The HTTP requests that were sent, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().web.requests.clone()
    }

    /// What was added to a counter under these labels, in any order.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.0.borrow().record.counter(name, labels)
    }

    /// What a histogram was given under these labels, in any order.
    pub fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.0.borrow().record.observed(name, labels)
    }

    /// The lines that were logged.
    pub fn log(&self) -> Vec<LogLine> {
        self.0.borrow().record.lines.clone()
    }

    /// The reasons that were named, in their order.
    pub fn reasons(&self) -> Vec<String> {
        self.0.borrow().record.reasons.clone()
    }

    /// The reasons that were named since they were last taken.
    pub fn take_reasons(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().record.reasons)
    }

    fn select<T>(&self, one: impl FnMut(&Effect) -> Option<T>) -> Vec<T> {
        self.0.borrow().messaging.effects.iter().filter_map(one).collect()
    }

    /// Looks into a store, whether calls on it fail or not.
    fn store<T>(&self, name: &str, look: impl FnOnce(&mut super::store::Store) -> T) -> Option<T> {
        let state = &mut *self.0.borrow_mut();
        let store = state.stores.get_mut(name)?;
        let _ = store.at(state.clock.elapsed);
        Some(look(store))
    }
}

fn origin_of(url: &str) -> Origin {
    match Origin::of(url) {
        Some(origin) => origin,
        None => panic!("{url} is no URL such as https://authz.internal/users"),
    }
}
