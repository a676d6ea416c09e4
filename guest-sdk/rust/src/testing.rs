//! For the tests of a filter: the parts that the gateway would provide.
//!
//! ```
//! use wsgate_sdk::prelude::*;
//! use wsgate_sdk::testing;
//!
//! # struct Shout;
//! # impl Filter for Shout {
//! #     type Config = ();
//! #     fn open(_: &Rc<()>, _: &Handshake) -> Result<Admission<Self>, Refusal> {
//! #         Ok(Admission::new(Shout))
//! #     }
//! #     fn on_message(&mut self, _: Direction, message: Message) -> Result<Verdict, Error> {
//! #         Ok(Verdict::replace(message.as_text().unwrap_or_default().to_uppercase()))
//! #     }
//! # }
//! let mut shout = testing::open::<Shout>("{}");
//! let verdict = shout.on_message(Direction::ToUpstream, "hello".into());
//! assert_eq!(verdict, Ok(Verdict::replace("HELLO")));
//! ```

//! What a filter calls of the gateway is answered by a [`Host`], which grants, answers and records.

mod connection;
#[cfg(not(target_family = "wasm"))]
mod host;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod installed;
#[cfg(not(target_family = "wasm"))]
mod messaging;
#[cfg(not(target_family = "wasm"))]
mod record;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod store;
#[cfg(not(target_family = "wasm"))]
mod web;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::connection::{Connection, connect};
#[cfg(not(target_family = "wasm"))]
pub use self::{host::Host, messaging::Effect, record::LogLine};
use crate::{Error, Filter, Handshake, Header, Identity, Interest, Refusal, config};

/// Does what the gateway does when it loads a filter: reads the configuration and asks for the interest.
///
/// # Errors
///
/// Those for which the gateway would not load the filter.
pub fn init<F: Filter>(config_json: &str) -> Result<(Rc<F::Config>, Interest), Error> {
    let config = config::parse::<F::Config>(config_json)?;
    let interest = in_init(|| F::interest(&config))?;
    Ok((Rc::new(config), interest))
}

/// The same, in a test that is about something else.
fn loaded<F: Filter>(config_json: &str) -> (Rc<F::Config>, Interest) {
    match init::<F>(config_json) {
        Ok(loaded) => loaded,
        Err(error) => panic!("the configuration is refused: {error}"),
    }
}

/// What a handshake that is refused asked for is discarded.
fn discard_if_refused<T>(open: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    #[cfg(not(target_family = "wasm"))]
    let before = installed::with(|state| state.messaging.clone());
    let opened = open();
    #[cfg(not(target_family = "wasm"))]
    if let (Err(_), Some(before)) = (&opened, before) {
        installed::with(|state| state.messaging = before);
    }
    opened
}

/// Without the right to message anybody: no connection is served yet.
fn in_init<T>(call: impl FnOnce() -> T) -> T {
    #[cfg(not(target_family = "wasm"))]
    installed::with(|state| state.messaging.in_init = true);
    let answer = call();
    #[cfg(not(target_family = "wasm"))]
    installed::with(|state| state.messaging.in_init = false);
    answer
}

/// Loads a filter and opens a connection to `/`.
///
/// # Panics
///
/// Where the configuration or the connection is refused.
pub fn open<F: Filter>(config_json: &str) -> F {
    match connect::<F>(config_json, &handshake("/")) {
        Ok(connection) => connection.filter,
        Err(refusal) => panic!("the connection is refused: {refusal:?}"),
    }
}

/// The opening request of an anonymous client, without headers, for this path.
pub fn handshake(path: &str) -> Handshake {
    Handshake {
        connection: "test".to_owned(),
        route: "test".to_owned(),
        host: "localhost".to_owned(),
        path: path.to_owned(),
        parameters: Vec::new(),
        query: None,
        headers: Vec::new(),
        subprotocols: Vec::new(),
        client: "127.0.0.1:50000".to_owned(),
        secure: false,
        client_certificate: None,
        identity: None,
    }
}

impl Handshake {
    /// Adds a header: for tests.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Adds what a part `{name}` of the route's path matched: for tests.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets what follows the `?`: for tests.
    #[must_use]
    pub fn with_query(mut self, query: impl Into<String>) -> Self {
        self.query = Some(query.into());
        self
    }

    /// Adds a subprotocol that the client offers: for tests.
    #[must_use]
    pub fn with_subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Sets who the client is: for tests.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }
}

/// Who showed a token with this claim `sub`.
///
/// ```
/// use wsgate_sdk::testing;
///
/// let ann = testing::identity("ann").with_scope("chat").with_claim("tenant", "acme");
/// assert!(ann.has_scope("chat"));
/// assert_eq!(ann.claims, r#"{"scope":"chat","sub":"ann","tenant":"acme"}"#);
/// ```
pub fn identity(subject: &str) -> Identity {
    let nobody =
        Identity { subject: None, issuer: None, scopes: Vec::new(), expires_at: None, claims: "{}".to_owned() };
    nobody.with_claim("sub", subject)
}

impl Identity {
    /// Adds a scope: for tests.
    #[must_use]
    pub fn with_scope(self, scope: &str) -> Self {
        let mut scopes = self.scopes.clone();
        scopes.push(scope.to_owned());
        self.with_claim("scope", scopes.join(" "))
    }

    /// Sets a claim, and what the gateway makes of `sub`, `iss`, `exp` and `scope`: for tests.
    ///
    /// # Panics
    ///
    /// Where the value cannot be written as JSON.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: impl Serialize) -> Self {
        let value = match serde_json::to_value(value) {
            Ok(value) => value,
            Err(error) => panic!("the claim {name} is no JSON: {error}"),
        };
        let text = value.as_str().map(str::to_owned);
        match name {
            "sub" => self.subject = text,
            "iss" => self.issuer = text,
            "exp" => self.expires_at = value.as_u64(),
            "scope" => {
                let scopes = text.unwrap_or_default();
                self.scopes = scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
            }
            _ => {}
        }
        let mut claims: Map<String, Value> = serde_json::from_str(&self.claims).unwrap_or_default();
        claims.insert(name.to_owned(), value);
        self.claims = Value::Object(claims).to_string();
        self
    }
}
