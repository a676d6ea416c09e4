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

use std::rc::Rc;

use crate::{Error, Filter, Handshake, Header, Interest, config};

/// Does what the gateway does when it loads a filter: reads the configuration and asks for the interest.
///
/// # Errors
///
/// Those for which the gateway would not load the filter.
pub fn init<F: Filter>(config_json: &str) -> Result<(Rc<F::Config>, Interest), Error> {
    let config = config::parse::<F::Config>(config_json)?;
    let interest = F::interest(&config)?;
    Ok((Rc::new(config), interest))
}

/// Loads a filter and opens a connection to `/`.
///
/// # Panics
///
/// Where the configuration or the connection is refused.
pub fn open<F: Filter>(config_json: &str) -> F {
    let (config, _) = match init::<F>(config_json) {
        Ok(loaded) => loaded,
        Err(error) => panic!("the configuration is refused: {error}"),
    };
    match F::open(&config, &handshake("/")) {
        Ok(admission) => admission.session,
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
}
