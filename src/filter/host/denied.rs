//! Imports whose rights no filter can have yet. They answer with an error value, never with a trap.

use super::Host;
use crate::filter::bindings::wsgate::filter::{
    http_client,
    key_value::{self, Entry, Error as StoreError},
};

impl key_value::Host for Host {
    fn get(&mut self, _store: String, _key: String) -> wasmtime::Result<Result<Option<Entry>, StoreError>> {
        Ok(Err(StoreError::Denied))
    }

    fn set(
        &mut self,
        _store: String,
        _key: String,
        _value: Vec<u8>,
        _ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<u64, StoreError>> {
        Ok(Err(StoreError::Denied))
    }

    fn compare_and_set(
        &mut self,
        _store: String,
        _key: String,
        _expected: Option<u64>,
        _value: Vec<u8>,
        _ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<bool, StoreError>> {
        Ok(Err(StoreError::Denied))
    }

    fn delete(&mut self, _store: String, _key: String) -> wasmtime::Result<Result<(), StoreError>> {
        Ok(Err(StoreError::Denied))
    }

    fn increment(
        &mut self,
        _store: String,
        _key: String,
        _by: i64,
        _ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<i64, StoreError>> {
        Ok(Err(StoreError::Denied))
    }
}

impl http_client::Host for Host {
    fn send(
        &mut self,
        _request: http_client::Request,
    ) -> wasmtime::Result<Result<http_client::Response, http_client::Error>> {
        Ok(Err(http_client::Error::Denied))
    }
}
