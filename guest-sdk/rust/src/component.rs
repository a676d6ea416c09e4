//! From the generated bindings to [`Filter`].

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::wsgate::filter::handler;
use crate::{
    Action, CloseInfo, Closer, Direction, Filter, Handshake, Identity, Interest, Message, Refusal, Rejection,
    ResumeCause, Verdict, config,
};

thread_local! {
    /// The configuration of this instance, an `Rc<F::Config>`. A component has one filter and one thread.
    static CONFIG: OnceCell<Rc<dyn Any>> = const { OnceCell::new() };
}

fn stored_config<F: Filter>() -> Option<Rc<F::Config>> {
    CONFIG.with(|stored| stored.get().cloned()?.downcast().ok())
}

/// One line at level error, of the connection that was served: the standard hook writes several to stderr, of none.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        match panic.location() {
            Some(place) => crate::log::error!("panicked at {place}: {message}"),
            None => crate::log::error!("panicked: {message}"),
        }
    }));
}

/// The exports of a component whose filter is `F`.
pub struct Component<F>(PhantomData<F>);

impl<F: Filter> handler::Guest for Component<F> {
    type Session = Connection<F>;

    fn init(json: String) -> Result<Interest, String> {
        log_panics();
        let config = config::parse::<F::Config>(&json)?;
        let interest = F::interest(&config)?;
        match CONFIG.with(|stored| stored.set(Rc::new(config))) {
            Ok(()) => Ok(interest),
            Err(_) => Err("init was called twice".to_owned()),
        }
    }

    fn open(handshake: Handshake) -> Result<handler::Admission, Refusal> {
        let Some(config) = stored_config::<F>() else {
            return Err(Refusal::fault("open was called before init"));
        };
        let admission = F::open(&config, &handshake)?;
        Ok(handler::Admission {
            session: Connection::start(admission.session),
            interest: admission.interest,
            upstream_headers: admission.upstream_headers,
            client_headers: admission.client_headers,
            subprotocol: admission.subprotocol,
            upstream: admission.upstream,
            tags: admission.tags,
        })
    }

    fn resume(handshake: Handshake, state: Option<Vec<u8>>, cause: ResumeCause) -> Result<handler::Resumed, Rejection> {
        let Some(config) = stored_config::<F>() else {
            return Err(Rejection::keep_old("resume was called before init"));
        };
        let resumed = F::resume(&config, &handshake, state, cause)?;
        Ok(handler::Resumed { session: Connection::start(resumed.session), interest: resumed.interest })
    }
}

/// One open connection. The contract hands out shared references; its calls never overlap.
pub struct Connection<F>(RefCell<F>);

impl<F: Filter> Connection<F> {
    fn start(filter: F) -> handler::Session {
        handler::Session::new(Self(RefCell::new(filter)))
    }
}

impl<F: Filter> handler::GuestSession for Connection<F> {
    fn on_message(&self, direction: Direction, message: Message) -> Result<Verdict, String> {
        Ok(self.0.borrow_mut().on_message(direction, message)?)
    }

    fn on_delivery(&self, topic: String, message: Message) -> Result<Verdict, String> {
        Ok(self.0.borrow_mut().on_delivery(&topic, message)?)
    }

    fn on_tick(&self) -> Result<Vec<Action>, String> {
        Ok(self.0.borrow_mut().on_tick()?)
    }

    fn on_identity(&self, identity: Identity) -> Result<Vec<Action>, String> {
        Ok(self.0.borrow_mut().on_identity(identity)?)
    }

    fn on_close(&self, by: Closer, info: CloseInfo) {
        self.0.borrow_mut().on_close(by, info);
    }

    fn save(&self) -> Option<Vec<u8>> {
        self.0.borrow_mut().save()
    }
}
