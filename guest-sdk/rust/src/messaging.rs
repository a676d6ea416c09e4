//! Topics, and messages to single connections, on any node of a cluster.
//!
//! Effects come after the verdict of the call, in the order of the calls. They are discarded where the call traps and
//! where it refuses a handshake; those of [`Filter::on_close`](crate::Filter::on_close) count. Errors are those that can
//! be told at once: an `Ok` promises no arrival.
//!
//! The filter's configuration has to allow it: `allow = { topics = ["room.*"], send = true }`.

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::messaging as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::messaging::Error;
use crate::{CloseInfo, Message};

/// Sends a message to the client of a connection. It passes that connection's whole to-client chain.
///
/// # Errors
///
/// [`Error::Denied`] without the right to send, [`Error::NotFound`], [`Error::QueueFull`], [`Error::TooLarge`].
pub fn send(connection: &str, message: &Message) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    return host::send(connection, message);
    #[cfg(not(target_family = "wasm"))]
    denied((connection, message))
}

/// Closes a connection.
///
/// # Errors
///
/// [`Error::Denied`] without the right to send, [`Error::NotFound`].
pub fn close(connection: &str, info: &CloseInfo) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    return host::close(connection, info);
    #[cfg(not(target_family = "wasm"))]
    denied((connection, info))
}

/// Publishes a message to every subscriber of a topic, but for the connection `exclude`.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed, [`Error::QueueFull`], [`Error::TooLarge`].
pub fn publish(topic: &str, message: &Message, exclude: Option<&str>) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    return host::publish(topic, message, exclude);
    #[cfg(not(target_family = "wasm"))]
    denied((topic, message, exclude))
}

/// Subscribes a connection to a topic.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed, [`Error::NotFound`] where there is no such connection.
pub fn subscribe(connection: &str, topic: &str) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    return host::subscribe(connection, topic);
    #[cfg(not(target_family = "wasm"))]
    denied((connection, topic))
}

/// Ends the subscription of a connection to a topic.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed, [`Error::NotFound`] where there is no such connection.
pub fn unsubscribe(connection: &str, topic: &str) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    return host::unsubscribe(connection, topic);
    #[cfg(not(target_family = "wasm"))]
    denied((connection, topic))
}

#[cfg(not(target_family = "wasm"))]
fn denied<T>(_call: T) -> Result<(), Error> {
    Err(Error::Denied)
}
