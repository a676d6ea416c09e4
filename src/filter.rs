//! Filters: WebAssembly components that decide about each message. wasmtime is named only below this module.
//!
//! In reading order: the contract's bindings, the engine and its limits, host functions, one instance, the instances of
//! a worker, the chain of one session, and the catalogue that turns files into generations.

mod bindings;
mod engine;
mod ticker;
mod limits;
mod room;
mod fault;
mod client;
mod breaker;
mod tally;
mod control;
mod reason;
mod recorder;
mod host;
mod generation;
mod compile;
mod cache;
mod compiler;
mod turn;
mod call;
mod interest;
mod request;
mod instance;
mod pool;
mod live;
mod edits;
mod member;
mod shadow;
mod chain;
mod catalogue;
mod workbench;
mod cases;
mod bench;
mod inspect;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, future::Future, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc, time::Duration};

pub use crate::identity::Identity;
use crate::message::{CloseFrame, Direction, Message};

pub use bench::{Bench, BenchError, Figures, MessageFigure, bench};
pub use breaker::BreakerState;
pub use cases::{CaseReport, CasesError, Mismatch, Report as CasesReport, play as play_cases};
pub use catalogue::{
    CandidateStatus, Catalogue, FilterState, FilterStatus, GenerationRole, GenerationStatus, LoadError, OrderError,
    Quarantined, RolledBack, ShadowStatus, check_scripts,
};
pub use chain::Chain;
pub use compile::NotAFilter;
pub use compiler::{Compiler, NotCompiled, compile_script, compile_stdin};
pub use control::Mode;
pub use engine::Memories;
pub use fault::FaultRecord;
pub use inspect::{Inspection, inspect};
pub use live::{ChainSpec, Live};
pub use pool::Instances;
pub use reason::{LastReason, Reason};
pub use shadow::{ShadowDifference, ShadowVerdict};
pub use workbench::WorkbenchError;

/// The opening request of a connection, as filters see it. Kept for the life of a session that has filters, because
/// `resume` receives it again.
#[derive(Clone, Debug)]
pub struct OpeningRequest {
    /// Opaque, at most 64 ASCII characters.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// Lower-case host, without the port.
    pub host: String,
    /// Path as the client sent it.
    pub path: String,
    /// What the route's `{name}` parts matched.
    pub parameters: Vec<(String, String)>,
    /// Without the `?`.
    pub query: Option<String>,
    /// In order, names in lower case, hop-by-hop headers removed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// As offered, in order.
    pub subprotocols: Vec<String>,
    /// Client address.
    pub client: SocketAddr,
    /// Did the client come over TLS?
    pub secure: bool,
    /// Subject of the client's certificate.
    pub client_certificate: Option<Arc<str>>,
    /// Who the client is; the latest where a token was refreshed. None on a route without `auth`.
    pub identity: RefCell<Option<Rc<Identity>>>,
    /// What filters say of their decisions about this connection; they do not see it.
    pub last_reason: Arc<LastReason>,
}

/// Edits to a request or a response, checked: hop-by-hop and `Sec-WebSocket-*` names are not in it.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Replace every value of the name.
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Add a value.
    pub append: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Remove every value of the name.
    pub remove: Vec<http::HeaderName>,
}

/// What a chain says of a connection that it admits; the filters' answers merged in chain order, the later one winning.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Edits to the request that the upstream receives.
    pub upstream_headers: Edits,
    /// Edits to the 101 that the client receives.
    pub client_headers: Edits,
    /// The subprotocol to answer with.
    pub subprotocol: Option<String>,
    /// Another configured upstream, granted by `allow.upstreams`.
    pub upstream: Option<String>,
    /// For logs and the admin API.
    pub tags: Vec<(String, String)>,
}

/// Why a chain did not admit a connection.
#[derive(Debug)]
pub enum NotAdmitted {
    /// A filter refused it.
    Refused {
        /// Which.
        filter: Arc<str>,
        /// 400-599.
        status: http::StatusCode,
        /// Headers of the answer.
        headers: Vec<(http::HeaderName, http::HeaderValue)>,
        /// Body of the answer.
        body: Vec<u8>,
    },
    /// A filter failed under `fail_closed` (500).
    Fault {
        /// Which.
        filter: Arc<str>,
    },
    /// A filter of the route keeps new connections out: an operator said so, or there is none to serve (503).
    Closed {
        /// Which.
        filter: Arc<str>,
    },
    /// No room for another session, or the breaker is open (503).
    Capacity {
        /// Which.
        filter: Arc<str>,
    },
    /// The client's messages kept ending instances (429).
    Client {
        /// Which.
        filter: Arc<str>,
        /// For how long the client is still refused.
        retry_after: Duration,
    },
}

/// Who ended a connection, as `on-close` hears it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closer {
    /// The client closed or vanished.
    Client,
    /// The upstream closed or broke off.
    Upstream,
    /// The gateway: limits, time, drain, protocol errors.
    Gateway,
    /// A filter's verdict or fault.
    Filter,
}

/// What a run of the chain asks of the session, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Queue a message on the leg towards which the direction points.
    Send(Direction, Message),
    /// Send a message to another upstream, which the filter's `allow` names. A chain names at most four.
    Route {
        /// Its name.
        upstream: Arc<str>,
        /// What it receives.
        message: Message,
    },
    /// End the session. Nothing follows it.
    Close {
        /// Checked to be sendable.
        frame: CloseFrame,
        /// Which filter.
        filter: Arc<str>,
        /// True for a trap, an error under `fail_closed`, a spent budget.
        fault: bool,
    },
}

/// The result of one run through the chain.
#[derive(Debug)]
pub enum Outcome {
    /// The usual case: one message goes on in its direction.
    Pass(Message),
    /// Anything else; empty when the message was dropped.
    Effects(Vec<Effect>),
}

/// One run through a chain, or one migration. It owns what it needs. A run that was polled once must be polled to its
/// end: a session that ends first hands it to [`finish`].
pub type Run<T> = Pin<Box<dyn Future<Output = T>>>;

/// Lets the worker poll a run to its end after its session is gone.
pub fn finish<T: 'static>(run: Run<T>) {
    tokio::task::spawn_local(async move { drop(run.await) });
}

/// The result of [`Chain::migrate`].
pub enum Migration {
    /// The session goes on with this chain; the old one is already released.
    Moved(Chain),
    /// The session stays where it is.
    Kept,
    /// A filter of the new chain says that the connection may not go on.
    Close {
        /// Checked to be sendable.
        frame: CloseFrame,
        /// Which filter.
        filter: Arc<str>,
    },
}
