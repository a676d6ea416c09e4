//! The imports outside the gateway, with the signatures of the generated ones: the test's [`Host`](crate::testing::Host)
//! answers where one is installed, else a stand-in.

use crate::testing::installed;

pub(crate) mod clock {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::installed;

    pub(crate) fn now_ms() -> u64 {
        installed::with(|state| state.clock.unix_ms).unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    pub(crate) fn monotonic_ns() -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let nanos = |elapsed: Duration| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let installed = installed::with(|state| nanos(state.clock.elapsed));
        installed.unwrap_or_else(|| nanos(START.elapsed()))
    }
}

pub(crate) mod logging {
    use super::installed;
    use crate::log::Level;

    pub(crate) fn enabled(level: Level) -> bool {
        installed::with(|state| level >= state.record.level).unwrap_or(true)
    }

    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        let shown: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        eprintln!("{level:?} {message}{shown}");
        installed::with(|state| state.record.log(level, message, fields));
    }

    pub(crate) fn reason(label: &str) {
        eprintln!("reason {label}");
        installed::with(|state| state.record.reason(label));
    }
}

pub(crate) mod metrics {
    use super::installed;

    pub(crate) fn add(counter: &str, labels: &[(String, String)], by: u64) {
        installed::with(|state| state.record.add(counter, labels, by));
    }

    pub(crate) fn observe(histogram: &str, labels: &[(String, String)], value: f64) {
        installed::with(|state| state.record.observe(histogram, labels, value));
    }
}

pub(crate) mod messaging {
    use super::installed;
    use crate::messaging::Error;
    use crate::testing::Effect;
    use crate::{CloseInfo, Message};

    pub(crate) fn send(to: &str, message: &Message) -> Result<(), Error> {
        order(Effect::Send { to: to.to_owned(), message: message.clone() })
    }

    pub(crate) fn close(connection: &str, info: &CloseInfo) -> Result<(), Error> {
        order(Effect::Close { connection: connection.to_owned(), info: info.clone() })
    }

    pub(crate) fn publish(topic: &str, message: &Message, exclude: Option<&str>) -> Result<(), Error> {
        let exclude = exclude.map(str::to_owned);
        order(Effect::Publish { topic: topic.to_owned(), message: message.clone(), exclude })
    }

    pub(crate) fn subscribe(connection: &str, topic: &str) -> Result<(), Error> {
        order(Effect::Subscribe { connection: connection.to_owned(), topic: topic.to_owned() })
    }

    pub(crate) fn unsubscribe(connection: &str, topic: &str) -> Result<(), Error> {
        order(Effect::Unsubscribe { connection: connection.to_owned(), topic: topic.to_owned() })
    }

    fn order(effect: Effect) -> Result<(), Error> {
        installed::with(|state| state.messaging.order(effect)).unwrap_or(Err(Error::Denied))
    }
}

pub(crate) mod key_value {
    use super::installed;
    use crate::key_value::{Entry, Error};
    use crate::testing::store::Store;

    pub(crate) fn get(store: &str, key: &str) -> Result<Option<Entry>, Error> {
        on(store, |store| store.get(key))
    }

    pub(crate) fn set(store: &str, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
        on(store, |store| store.set(key, value, ttl_ms))
    }

    pub(crate) fn compare_and_set(
        store: &str,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, Error> {
        on(store, |store| store.compare_and_set(key, expected, value, ttl_ms))
    }

    pub(crate) fn delete(store: &str, key: &str) -> Result<(), Error> {
        on(store, |store| store.delete(key))
    }

    pub(crate) fn increment(store: &str, key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        on(store, |store| store.increment(key, by, ttl_ms))
    }

    fn on<T>(name: &str, call: impl FnOnce(&mut Store) -> Result<T, Error>) -> Result<T, Error> {
        let answer = installed::with(|state| {
            let now = state.clock.elapsed;
            let store = state.stores.get_mut(name).ok_or(Error::Denied)?;
            store.at(now)?;
            call(store)
        });
        answer.unwrap_or_else(|| Err(Error::Unavailable("outside the gateway".to_owned())))
    }
}

pub(crate) mod http_client {
    use super::installed;
    use crate::http::{Error, Request, Response};

    /// The answer is made while nothing is borrowed: it may set the clock.
    pub(crate) fn send(request: &Request) -> Result<Response, Error> {
        let answer = installed::with(|state| state.web.route(request)).unwrap_or(Err(Error::Denied))?;
        (answer.borrow_mut())(request)
    }
}
