//! The answers to a handshake and to a takeover: admission, refusal, and their counterparts of `resume`.

use std::fmt::Display;

use serde_json::Value;

use crate::bindings::wsgate::filter::types::Header;
use crate::{CloseInfo, Error, HeaderEdits, Interest, Refusal, Rejection};

/// A connection is let in: what [`Filter::open`](crate::Filter::open) returns.
///
/// ```
/// use wsgate_sdk::prelude::*;
///
/// # struct Shout;
/// let admission = Admission::new(Shout)
///     .with_upstream_headers(HeaderEdits::new().set("x-user", "7").remove("cookie"))
///     .with_subprotocol("chat.v2")
///     .with_tag("tenant", "acme");
/// # assert_eq!(admission.tags.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission<F> {
    /// The filter's side of the connection.
    pub session: F,
    /// What to be called for on this connection, where it differs from [`Filter::interest`](crate::Filter::interest).
    pub interest: Option<Interest>,
    /// Edits to the request that goes to the upstream.
    pub upstream_headers: HeaderEdits,
    /// Edits to the response that goes to the client.
    pub client_headers: HeaderEdits,
    /// The subprotocol to agree on with the client: one that it offered. Without one the upstream chooses.
    pub subprotocol: Option<String>,
    /// Name of another configured upstream to use. It has to be among those that the filter's configuration allows.
    pub upstream: Option<String>,
    /// Names and values that are shown in logs, the admin API and, where configured, metrics.
    pub tags: Vec<(String, String)>,
}

impl<F> Admission<F> {
    /// Lets the connection in as it is.
    pub fn new(session: F) -> Self {
        Self {
            session,
            interest: None,
            upstream_headers: HeaderEdits::new(),
            client_headers: HeaderEdits::new(),
            subprotocol: None,
            upstream: None,
            tags: Vec::new(),
        }
    }

    /// Sets what to be called for on this connection.
    #[must_use]
    pub fn with_interest(mut self, interest: Interest) -> Self {
        self.interest = Some(interest);
        self
    }

    /// Sets the edits to the request that goes to the upstream.
    #[must_use]
    pub fn with_upstream_headers(mut self, edits: HeaderEdits) -> Self {
        self.upstream_headers = edits;
        self
    }

    /// Replaces every header of this name in the request that goes to the upstream by this one.
    #[must_use]
    pub fn with_upstream_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.upstream_headers = self.upstream_headers.set(name, value);
        self
    }

    /// Sets the edits to the response that goes to the client.
    #[must_use]
    pub fn with_client_headers(mut self, edits: HeaderEdits) -> Self {
        self.client_headers = edits;
        self
    }

    /// Sets the subprotocol.
    #[must_use]
    pub fn with_subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Sets the upstream.
    #[must_use]
    pub fn with_upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = Some(name.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn with_tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }
}

/// A connection that was open before is taken over: what [`Filter::resume`](crate::Filter::resume) returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed<F> {
    /// The filter's side of the connection.
    pub session: F,
    /// What to be called for on this connection, where it differs from [`Filter::interest`](crate::Filter::interest).
    pub interest: Option<Interest>,
}

impl<F> Resumed<F> {
    /// Takes the connection over.
    pub fn new(session: F) -> Self {
        Self { session, interest: None }
    }

    /// Sets what to be called for on this connection.
    #[must_use]
    pub fn with_interest(mut self, interest: Interest) -> Self {
        self.interest = Some(interest);
        self
    }
}

/// Only what an open connection can still take: the filter's side of it and its interest.
impl<F> From<Admission<F>> for Resumed<F> {
    fn from(admission: Admission<F>) -> Self {
        Self { session: admission.session, interest: admission.interest }
    }
}

impl HeaderEdits {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.append.is_empty() && self.remove.is_empty()
    }

    /// Replaces every header of this name by this one.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.set.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Adds a header beside those of the same name.
    #[must_use]
    pub fn append(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.append.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Removes every header of this name.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }
}

impl Refusal {
    /// Refuses with this HTTP status (400-599; the gateway answers 500 for any other) and no body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Refuses with this status and a line of text for people.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// fn open(handshake: &Handshake) -> Result<(), Refusal> {
    ///     let token = handshake.cookie("session").ok_or_else(|| Refusal::text(401, "log in first"))?;
    ///     # let _ = token;
    ///     Ok(())
    /// }
    /// # assert_eq!(open(&wsgate_sdk::testing::handshake("/")).unwrap_err().body, b"log in first\n");
    /// ```
    pub fn text(status: u16, line: impl Display) -> Self {
        let refusal = Self::new(status).with_header("content-type", "text/plain; charset=utf-8");
        refusal.with_body(format!("{line}\n"))
    }

    /// Refuses with this status and a JSON document.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::new(status).with_header("content-type", "application/json").with_body(value.to_string())
    }

    /// Writes `error` to the log and refuses with 500, without a word of it to the client. An [`Error`] and those of the
    /// gateway's calls become this with `?`.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// fn quota(user: &str) -> Result<u64, Refusal> {
    ///     let entry = key_value::get("quotas", user)?;
    ///     Ok(entry.map_or(0, |entry| entry.version))
    /// }
    /// # assert_eq!(quota("7"), Err(Refusal::new(500)));
    /// ```
    pub fn fault(error: impl Display) -> Self {
        crate::log::error!("a handshake failed: {error}");
        Self::new(500)
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets the body of the response. Its `content-type` is a header to be added.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::fault(error)
    }
}

impl From<crate::key_value::Error> for Refusal {
    fn from(error: crate::key_value::Error) -> Self {
        Self::fault(Error::from(error))
    }
}

impl From<crate::messaging::Error> for Refusal {
    fn from(error: crate::messaging::Error) -> Self {
        Self::fault(Error::from(error))
    }
}

impl From<crate::http::Error> for Refusal {
    fn from(error: crate::http::Error) -> Self {
        Self::fault(Error::from(error))
    }
}

impl Rejection {
    /// Closes the connection with this code and reason.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(CloseInfo::new(code, reason))
    }

    /// Leaves the connection with the old generation of the filter, and says why.
    pub fn keep_old(why: impl Display) -> Self {
        Self::KeepOld(why.to_string())
    }
}

/// The connection stays with the old generation of the filter.
impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::keep_old(error)
    }
}
