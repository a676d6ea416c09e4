//! The stores that filters share, as guests reach them.

use std::sync::Arc;

use super::Host;
use crate::{
    filter::bindings::wsgate::filter::key_value::{Entry, Error, Host as KeyValue},
    store::{Store, StoreError},
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host {
    fn store(&self, name: &str) -> Result<Arc<Store>, Error> {
        self.rights.store(name).cloned().ok_or_else(|| {
            self.denied("key-value", name);
            Error::Denied
        })
    }
}

impl KeyValue for Host {
    async fn get(&mut self, store: String, key: String) -> Answer<Option<Entry>> {
        let store = self.store(&store);
        let answer = async {
            let entry = store?.get(&key).await?;
            Ok(entry.map(|entry| Entry { value: entry.value.into(), version: entry.version }))
        };
        Ok(answer.await)
    }

    async fn set(&mut self, store: String, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<u64> {
        let store = self.store(&store);
        Ok(async { Ok(store?.set(&key, value, ttl_ms).await?) }.await)
    }

    async fn compare_and_set(
        &mut self,
        store: String,
        key: String,
        expected: Option<u64>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        let store = self.store(&store);
        Ok(async { Ok(store?.compare_and_set(&key, expected, value, ttl_ms).await?) }.await)
    }

    async fn delete(&mut self, store: String, key: String) -> Answer<()> {
        let store = self.store(&store);
        Ok(async { Ok(store?.delete(&key).await?) }.await)
    }

    async fn increment(&mut self, store: String, key: String, by: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        let store = self.store(&store);
        Ok(async { Ok(store?.increment(&key, by, ttl_ms).await?) }.await)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(why) => Self::Invalid(why.into_owned()),
            StoreError::TooLarge { .. } => Self::TooLarge,
            StoreError::Full { .. } | StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}
