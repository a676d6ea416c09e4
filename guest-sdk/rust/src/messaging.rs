//! Topics, and messages to single connections, on any node of a cluster.
//!
//! Effects come after the call was answered, in the order of the calls. They are discarded where the call traps and where
//! it refuses a handshake; those of [`Filter::on_close`](crate::Filter::on_close) count. Errors are those that can be told
//! at once: an `Ok` promises no arrival. A call has at most 1,000 effects.
//!
//! The filter's configuration has to allow it: `allow = { topics = ["room.*"], send = true }`. In a topic's pattern `*`
//! stands for any characters. While the configuration is read ([`Filter::interest`](crate::Filter::interest)) everything is
//! denied: no connection is served then.
//!
//! A connection can be subscribed and sent to from its [`Filter::open`](crate::Filter::open) on:
//!
//! ```
//! use wsgate_sdk::prelude::*;
//!
//! # struct Room { connection: String }
//! fn join(handshake: &Handshake) -> Result<Admission<Room>, Refusal> {
//!     messaging::subscribe(&handshake.connection, "room.lobby").map_err(|error| Refusal::fault(format!("{error:?}")))?;
//!     Ok(Admission::new(Room { connection: handshake.connection.clone() }))
//! }
//!
//! fn say(room: &Room, message: Message) -> Verdict {
//!     match messaging::publish("room.lobby", &message, Some(&room.connection)) {
//!         Ok(()) => Verdict::Drop,
//!         Err(error) => Verdict::reply(format!("not said: {error:?}")),
//!     }
//! }
//! # let room = Room { connection: "c".into() };
//! # assert_eq!(say(&room, "hello".into()), Verdict::reply("not said: Error::Denied"));
//! ```

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::messaging as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::messaging::Error;
#[cfg(not(target_family = "wasm"))]
use crate::native::messaging as host;
use crate::{CloseInfo, Message};

/// Sends a message to the client of a connection. It passes that connection's whole to-client chain, but not
/// [`Filter::on_delivery`](crate::Filter::on_delivery).
///
/// # Errors
///
/// [`Error::Denied`] without the right to send, [`Error::NotFound`], [`Error::QueueFull`], [`Error::TooLarge`].
pub fn send(connection: &str, message: &Message) -> Result<(), Error> {
    host::send(connection, message)
}

/// Closes a connection, behind what it was sent before. A code that may not be sent is a fault of the call, and closes with
/// 1011.
///
/// # Errors
///
/// [`Error::Denied`] without the right to send, [`Error::NotFound`], [`Error::QueueFull`].
pub fn close(connection: &str, info: &CloseInfo) -> Result<(), Error> {
    host::close(connection, info)
}

/// Publishes a message to every subscriber of a topic, but for the connection `exclude`. A topic needs no making, and costs
/// nothing without subscribers. Its name has up to 256 bytes without white space and `*`.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed; [`Error::QueueFull`] where the call has all its effects;
/// [`Error::TooLarge`] where no route's clients may get as much.
pub fn publish(topic: &str, message: &Message, exclude: Option<&str>) -> Result<(), Error> {
    host::publish(topic, message, exclude)
}

/// Subscribes a connection to a topic. Doing so twice is no error. The subscription outlives a reload of the filter, and
/// ends with the connection, of which each may have 128.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed, [`Error::NotFound`] where there is no such connection,
/// [`Error::QueueFull`] where it has all its subscriptions.
pub fn subscribe(connection: &str, topic: &str) -> Result<(), Error> {
    host::subscribe(connection, topic)
}

/// Ends the subscription of a connection to a topic.
///
/// # Errors
///
/// [`Error::Denied`] where the topic is not allowed, [`Error::NotFound`] where there is no such connection.
pub fn unsubscribe(connection: &str, topic: &str) -> Result<(), Error> {
    host::unsubscribe(connection, topic)
}
