//! Imports whose rights no filter can have yet. They answer with an error value, never with a trap.

use super::Host;
use crate::filter::bindings::wsgate::filter::messaging::{self, CloseInfo, ConnectionId, Error as SendError, Message};

impl messaging::Host for Host {
    fn send(&mut self, _to: ConnectionId, _message: Message) -> wasmtime::Result<Result<(), SendError>> {
        Ok(Err(SendError::Denied))
    }

    fn close(&mut self, _connection: ConnectionId, _info: CloseInfo) -> wasmtime::Result<Result<(), SendError>> {
        Ok(Err(SendError::Denied))
    }

    fn publish(
        &mut self,
        _topic: String,
        _message: Message,
        _exclude: Option<ConnectionId>,
    ) -> wasmtime::Result<Result<(), SendError>> {
        Ok(Err(SendError::Denied))
    }

    fn subscribe(&mut self, _connection: ConnectionId, _topic: String) -> wasmtime::Result<Result<(), SendError>> {
        Ok(Err(SendError::Denied))
    }

    fn unsubscribe(&mut self, _connection: ConnectionId, _topic: String) -> wasmtime::Result<Result<(), SendError>> {
        Ok(Err(SendError::Denied))
    }
}
