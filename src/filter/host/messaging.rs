//! Topics and other connections. What a call asks for is written down here and carried out when the call is over: an
//! instance that dies takes its orders with it.

use std::sync::Arc;

use super::Host;
use crate::{
    filter::{
        bindings::wsgate::filter::messaging::{self, CloseInfo, ConnectionId, Error, Message as Given},
        fault::{Fault, FaultKind, Occasion},
        generation::Generation,
        tally::Hook,
    },
    message::{CloseFrame, Message},
    topic::{Dismissal, Hub, Mailbox, Order},
};

/// Orders of one call, like the actions of one answer.
const ORDERS_A_CALL: usize = 1_000;

/// The orders of the call that is being made.
pub(in crate::filter) struct Orders {
    generation: Arc<Generation>,
    given: Vec<Order>,
    /// Payload in them.
    bytes: usize,
    /// Close codes among them that may not be sent.
    breaches: Vec<u16>,
    /// False in `init`, which serves no connection.
    accepted: bool,
}

impl Orders {
    pub(super) fn new(generation: &Arc<Generation>) -> Self {
        Self { generation: Arc::clone(generation), given: Vec::new(), bytes: 0, breaches: Vec::new(), accepted: false }
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.discard();
        self.accepted = true;
    }

    /// Forgets what the call asked for.
    pub(in crate::filter) fn discard(&mut self) {
        self.given.clear();
        self.breaches.clear();
        self.bytes = 0;
    }

    /// Does what the call asked for.
    fn carry_out(&mut self, hook: Hook, connection: &str) {
        for code in self.breaches.drain(..) {
            let cause = format!("messaging.close: close code {code} may not be sent");
            Fault::new(FaultKind::Verdict, cause)
                .log(&self.generation, Occasion { hook, connection, last_message: None });
        }
        if let Some(recorder) = &self.generation.engine().recorder {
            self.given.iter().for_each(|order| recorder.order(order));
        }
        self.generation.engine().hub.carry_out(self.given.drain(..));
        // An instance is kept for long, and few calls have many.
        self.given.shrink_to(16);
        self.bytes = 0;
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.generation.engine().hub
    }

    fn find(&self, connection: &str) -> Result<Arc<Mailbox>, Error> {
        self.hub().find(connection).ok_or(Error::NotFound)
    }

    fn may_send(&self) -> bool {
        self.accepted && self.generation.rights().may_send()
    }

    fn may_use(&self, topic: &str) -> bool {
        self.accepted && self.generation.rights().may_use(topic)
    }

    /// The bytes of a call's messages are bounded like those of its answer.
    fn give(&mut self, order: Order, bytes: usize) -> Result<(), Error> {
        if self.given.len() >= ORDERS_A_CALL || self.bytes + bytes > self.generation.limits().fuel_bytes {
            return Err(Error::QueueFull);
        }
        self.bytes += bytes;
        self.given.push(order);
        Ok(())
    }

    fn send(&mut self, to: &str, message: Message) -> Result<(), Error> {
        let (to, bytes) = (self.find(to)?, message.len());
        if bytes > to.max_message_bytes() {
            return Err(Error::TooLarge);
        }
        if to.is_full(bytes) {
            return Err(Error::QueueFull);
        }
        self.give(Order::Send { to, message }, bytes)
    }

    fn publish(&mut self, topic: String, message: Message, exclude: Option<&str>) -> Result<(), Error> {
        let bytes = message.len();
        if bytes > self.hub().max_message_bytes() {
            return Err(Error::TooLarge);
        }
        // One that is not here gets nothing anyway.
        let exclude = exclude.and_then(|connection| self.hub().find(connection));
        self.give(Order::Publish { topic: topic.into(), message, exclude }, bytes)
    }

    fn subscribe(&mut self, connection: &str, topic: String) -> Result<(), Error> {
        let connection = self.find(connection)?;
        let pending = self.given.iter().filter(
            |order| matches!(order, Order::Subscribe { connection: other, .. } if Arc::ptr_eq(other, &connection)),
        );
        if connection.has_all_subscriptions(&topic, pending.count()) {
            return Err(Error::QueueFull);
        }
        self.give(Order::Subscribe { connection, topic: topic.into() }, 0)
    }
}

fn shared(message: Given) -> Message {
    match message {
        Given::Text(text) => Message::text(text),
        Given::Binary(bytes) => Message::binary(bytes),
    }
}

impl Host {
    fn close_connection(&mut self, connection: &str, info: &CloseInfo) -> Result<(), Error> {
        let connection = self.orders.find(connection)?;
        let fault = !CloseFrame::is_sendable(info.code);
        let frame = match fault {
            false => CloseFrame::new(info.code, &info.reason),
            true => CloseFrame::new(1011, "filter failed"),
        };
        let filter = Arc::clone(self.orders.generation.filter());
        self.orders.give(Order::Close { connection, dismissal: Dismissal { filter, frame, fault } }, 0)?;
        if fault {
            self.orders.breaches.push(info.code);
        }
        Ok(())
    }

    /// The call that was made is over and was answered.
    pub(in crate::filter) fn carry_out(&mut self, hook: Hook) {
        if !self.orders.given.is_empty() {
            let connection: Arc<str> = self.connection().into();
            self.orders.carry_out(hook, &connection);
        }
    }

    fn refused(&self, function: &str, what: &str) -> Error {
        let what = if self.orders.accepted { what } else { "init, which serves no connection" };
        self.denied("messaging", format_args!("{function} {what}"));
        Error::Denied
    }
}

impl messaging::Host for Host {
    fn send(&mut self, to: ConnectionId, message: Given) -> wasmtime::Result<Result<(), Error>> {
        if !self.orders.may_send() {
            return Ok(Err(self.refused("send", "allow.send")));
        }
        Ok(self.orders.send(&to, shared(message)))
    }

    fn close(&mut self, connection: ConnectionId, info: CloseInfo) -> wasmtime::Result<Result<(), Error>> {
        if !self.orders.may_send() {
            return Ok(Err(self.refused("close", "allow.send")));
        }
        Ok(self.close_connection(&connection, &info))
    }

    fn publish(
        &mut self,
        topic: String,
        message: Given,
        exclude: Option<ConnectionId>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if !self.orders.may_use(&topic) {
            return Ok(Err(self.refused("publish", &topic)));
        }
        Ok(self.orders.publish(topic, shared(message), exclude.as_deref()))
    }

    fn subscribe(&mut self, connection: ConnectionId, topic: String) -> wasmtime::Result<Result<(), Error>> {
        if !self.orders.may_use(&topic) {
            return Ok(Err(self.refused("subscribe", &topic)));
        }
        Ok(self.orders.subscribe(&connection, topic))
    }

    fn unsubscribe(&mut self, connection: ConnectionId, topic: String) -> wasmtime::Result<Result<(), Error>> {
        if !self.orders.may_use(&topic) {
            return Ok(Err(self.refused("unsubscribe", &topic)));
        }
        Ok(self
            .orders
            .find(&connection)
            .and_then(|connection| self.orders.give(Order::Unsubscribe { connection, topic: topic.into() }, 0)))
    }
}
