//! Where the values come from that are put into messages.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use filter_parts::Pointer;
use filter_parts::json::{Json, MAX_DEPTH, Names};
use serde::Deserialize;
use serde_json::Value;
use wsgate_sdk::{Handshake, Identity, clock};

use crate::time;

/// Longest value of a connection that is kept for its messages. A longer one is as if it were not there.
const MAX_VALUE_BYTES: usize = 4_096;

/// What the configuration says of a value: `value = …`, or `from = "…"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// This JSON text.
    Constant(String),
    Time(Clock),
    /// Something of the connection.
    Connection(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Millis,
    Seconds,
    Rfc3339,
}

/// A part of the opening request, or of who the client is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Header(String),
    Parameter(String),
    Query(String),
    Claim(Pointer),
    Subject,
    Issuer,
    Scopes,
    ClientIp,
    Connection,
    Route,
    Host,
    Path,
}

/// A `from` that is none.
#[derive(Debug)]
pub(crate) struct UnknownSource(String);

impl Display for UnknownSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "from: `{}` is not known; header:NAME, parameter:NAME, query:NAME, claim:POINTER, subject, issuer, scopes, client_ip, \
             connection, route, host, path, time:ms, time:s and time:rfc3339 are",
            self.0
        )
    }
}

/// As it is written in the configuration.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct WrittenSource(String);

impl WrittenSource {
    pub(crate) fn source(self) -> Result<Source, String> {
        let Self(written) = self;
        let (kind, name) = written.split_once(':').unwrap_or((&written, ""));
        let part = match (kind, name) {
            ("header", name) if !name.is_empty() => Part::Header(name.to_ascii_lowercase()),
            ("parameter", name) if !name.is_empty() => Part::Parameter(name.to_owned()),
            ("query", name) if !name.is_empty() => Part::Query(name.to_owned()),
            ("claim", pointer) if !pointer.is_empty() => {
                Part::Claim(pointer.parse().map_err(|error| format!("from: {error}"))?)
            }
            ("subject", "") => Part::Subject,
            ("issuer", "") => Part::Issuer,
            ("scopes", "") => Part::Scopes,
            ("client_ip", "") => Part::ClientIp,
            ("connection", "") => Part::Connection,
            ("route", "") => Part::Route,
            ("host", "") => Part::Host,
            ("path", "") => Part::Path,
            ("time", "ms") => return Ok(Source::Time(Clock::Millis)),
            ("time", "s") => return Ok(Source::Time(Clock::Seconds)),
            ("time", "rfc3339") => return Ok(Source::Time(Clock::Rfc3339)),
            _ => return Err(UnknownSource(written).to_string()),
        };
        Ok(Source::Connection(part))
    }
}

/// What is known of a connection: the JSON texts of those parts that rules name.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<Part, String>);

impl Known {
    pub(crate) fn new<'s>(handshake: &Handshake, sources: impl Iterator<Item = &'s Source> + Clone) -> Self {
        let mut known = Self::default();
        for part in sources.clone().filter_map(Source::part) {
            if let Some(value) = of_request(part, handshake) {
                known.keep(part, Value::from(value).to_string());
            }
        }
        known.identify(handshake.identity.as_ref(), sources);
        known
    }

    /// Takes over who the client is now.
    pub(crate) fn identify<'s>(&mut self, identity: Option<&Identity>, sources: impl Iterator<Item = &'s Source>) {
        for part in sources.filter_map(Source::part).filter(|part| part.is_of_identity()) {
            match identity.and_then(|identity| of_identity(part, identity)) {
                Some(value) => self.keep(part, value),
                None => drop(self.0.remove(part)),
            }
        }
    }

    fn keep(&mut self, part: &Part, value: String) {
        if value.len() <= MAX_VALUE_BYTES {
            self.0.insert(part.clone(), value);
        } else {
            self.0.remove(part);
        }
    }

    /// The JSON text of a value. None where the connection has none.
    pub(crate) fn read(&self, source: &Source) -> Option<String> {
        match source {
            Source::Constant(text) => Some(text.clone()),
            Source::Time(Clock::Millis) => Some(clock::now_ms().to_string()),
            Source::Time(Clock::Seconds) => Some((clock::now_ms() / 1_000).to_string()),
            Source::Time(Clock::Rfc3339) => Some(format!("\"{}\"", time::rfc3339(clock::now_ms()))),
            Source::Connection(part) => self.0.get(part).cloned(),
        }
    }
}

impl Source {
    fn part(&self) -> Option<&Part> {
        match self {
            Self::Connection(part) => Some(part),
            Self::Constant(_) | Self::Time(_) => None,
        }
    }
}

impl Part {
    fn is_of_identity(&self) -> bool {
        match self {
            Self::Claim(_) | Self::Subject | Self::Issuer | Self::Scopes => true,
            Self::Header(_) | Self::Parameter(_) | Self::Query(_) => false,
            Self::ClientIp | Self::Connection | Self::Route | Self::Host | Self::Path => false,
        }
    }
}

fn of_request(part: &Part, handshake: &Handshake) -> Option<String> {
    match part {
        Part::Header(name) => handshake.header(name).map(str::to_owned),
        Part::Parameter(name) => handshake.parameter(name).map(str::to_owned),
        Part::Query(name) => filter_parts::query::parameters(handshake.query.as_deref()?)
            .find_map(|(written, value)| (written == *name).then_some(value)),
        Part::ClientIp => {
            let address = handshake.client.parse::<std::net::SocketAddr>().ok()?;
            Some(address.ip().to_canonical().to_string())
        }
        Part::Connection => Some(handshake.connection.clone()),
        Part::Route => Some(handshake.route.clone()),
        Part::Host => Some(handshake.host.clone()),
        Part::Path => Some(handshake.path.clone()),
        Part::Claim(_) | Part::Subject | Part::Issuer | Part::Scopes => None,
    }
}

/// The JSON text; a claim is taken as it is written in the token.
fn of_identity(part: &Part, identity: &Identity) -> Option<String> {
    match part {
        Part::Claim(pointer) => {
            let claims = Json::check(&identity.claims, MAX_DEPTH).ok()?;
            Some(claims.find(pointer, Names::Exact).value()?.text().to_owned())
        }
        Part::Subject => identity.subject.as_deref().map(|subject| Value::from(subject).to_string()),
        Part::Issuer => identity.issuer.as_deref().map(|issuer| Value::from(issuer).to_string()),
        Part::Scopes => Some(Value::from(identity.scopes.as_slice()).to_string()),
        Part::Header(_) | Part::Parameter(_) | Part::Query(_) => None,
        Part::ClientIp | Part::Connection | Part::Route | Part::Host | Part::Path => None,
    }
}
