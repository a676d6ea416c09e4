//! The trait that a filter implements.

use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::{
    Action, Admission, CloseInfo, Closer, Direction, Error, Handshake, Identity, Interest, Message, Refusal, Rejection,
    ResumeCause, Resumed, Verdict,
};

/// A filter. Each value of the type is one open connection.
///
/// Several connections may share an instance of the filter, and with it its memory, but never a value. What lives in
/// statics is lost with the instance: state that connections share belongs into [`key_value`](crate::key_value).
///
/// # Errors and panics
///
/// An `Err` that a function returns is the fault of that call alone: the gateway logs it, and the filter's
/// `failure_policy` says whether the connection is closed with 1011 (`fail_closed`, the default) or goes on as if the
/// filter were not there (`fail_open`). A panic ends the instance: its message reaches the log, and the other
/// connections of the instance are [resumed](Filter::resume) in a new one, without their state.
pub trait Filter: Sized + 'static {
    /// The filter's own table of the gateway's configuration: any type that serde reads, `()` for none.
    ///
    /// It is read once for each instance. Where it does not fit, the filter is not loaded, and the error names the key.
    /// What takes long to make, such as a compiled pattern, is best made while reading: with `#[serde(try_from)]`.
    type Config: DeserializeOwned + 'static;

    /// What to be called for. A message outside it never enters the sandbox, so a narrow interest is a fast filter.
    ///
    /// The default is every hook and every kind of message, and no ticks.
    ///
    /// # Errors
    ///
    /// Where the configuration makes no sense. The filter is then not loaded; one that is already running goes on.
    fn interest(config: &Self::Config) -> Result<Interest, Error> {
        let _ = config;
        Ok(Interest::all())
    }

    /// Admits or refuses a connection.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] is the answer to the HTTP request: no WebSocket opens.
    fn open(config: &Rc<Self::Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal>;

    /// Takes over a connection that is already open: after a reload, after the instance was lost, or because the filter
    /// was added to the connection's chain. `state` is what [`save`](Filter::save) returned, where it could be had.
    ///
    /// The default does what [`open`](Filter::open) does and starts anew. The edits and choices of an admission come too
    /// late then and are ignored, and a refusal closes the connection with 1008.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] closes the connection or leaves it with the old generation of the filter.
    fn resume(
        config: &Rc<Self::Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let _ = (state, cause);
        match Self::open(config, handshake) {
            Ok(admission) => Ok(admission.into()),
            Err(_) => Err(Rejection::close(1008, "no longer admitted")),
        }
    }

    /// Decides on one message. The default forwards it as it came.
    ///
    /// # Errors
    ///
    /// See [above](Filter#errors-and-panics).
    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let _ = (direction, message);
        Ok(Verdict::Forward)
    }

    /// Decides on a message of a topic that this connection is subscribed to, before it becomes a message to the client.
    /// What is forwarded or replaced here then passes [`on_message`](Filter::on_message) like any other. The default
    /// forwards it.
    ///
    /// # Errors
    ///
    /// See [above](Filter#errors-and-panics). A [`Verdict::Reply`] is a fault: nobody waits for it.
    fn on_delivery(&mut self, topic: &str, message: Message) -> Result<Verdict, Error> {
        let _ = (topic, message);
        Ok(Verdict::Forward)
    }

    /// Called once in every period that [`Interest::with_tick`] asked for. The default does nothing.
    ///
    /// # Errors
    ///
    /// See [above](Filter#errors-and-panics).
    fn on_tick(&mut self) -> Result<Vec<Action>, Error> {
        Ok(Vec::new())
    }

    /// Called when the client's token was refreshed. The default does nothing.
    ///
    /// # Errors
    ///
    /// See [above](Filter#errors-and-panics).
    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        let _ = identity;
        Ok(Vec::new())
    }

    /// Called once at the end of the connection, where its instance still lives. The default does nothing.
    fn on_close(&mut self, by: Closer, info: CloseInfo) {
        let _ = (by, info);
    }

    /// State to hand to [`resume`](Filter::resume) of the next generation. The default has none.
    ///
    /// The next generation may be another build of the filter, so the form should tell its version.
    fn save(&mut self) -> Option<Vec<u8>> {
        None
    }
}
