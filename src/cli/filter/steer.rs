//! `wsgate filter ls`, `rollback`, `mode`: what the admin API says of filters, and what it is told.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};

use crate::cli::failed;
use crate::{
    filter::Mode,
    http_head::{Authority, default_port},
    secret_file::{SecretFile, without_line_break},
};

/// From the connection to the last byte of the answer. The gateway gives an order up before.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Holds a token for the admin API, where no file is named.
const TOKEN_VARIABLE: &str = "WSGATE_ADMIN_TOKEN";
/// A longer file is no token.
const MAX_TOKEN_BYTES: u64 = 8 << 10;
/// A longer answer is no list of filters.
const MAX_ANSWER_BYTES: usize = 16 << 20;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SteerCommand {
    /// List the filters of a running gateway
    Ls {
        #[command(flatten)]
        admin: AdminArguments,
        /// Print what the admin API answers, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to the generation that served before; its file is not loaded again until it changes
    Rollback {
        /// The filter
        name: FilterName,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Let a filter serve, leave it out, or refuse new connections of its routes, until the gateway ends
    Mode {
        /// The filter
        name: FilterName,
        /// What becomes of its messages and connections
        mode: ModeArgument,
        #[command(flatten)]
        admin: AdminArguments,
    },
}

#[derive(Args, Debug)]
pub(in crate::cli) struct AdminArguments {
    /// The admin API of the gateway
    #[arg(long = "admin", value_name = "URL", default_value = "http://127.0.0.1:9901")]
    url: AdminUrl,
    /// A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ModeArgument {
    /// As configured
    Serve,
    /// Messages pass as if it were not there
    Bypass,
    /// New connections are answered 503
    Refuse,
}

impl From<ModeArgument> for Mode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Serve => Self::Serve,
            ModeArgument::Bypass => Self::Bypass,
            ModeArgument::Refuse => Self::Refuse,
        }
    }
}

/// A name that can stand in a path.
#[derive(Clone, Debug)]
pub(in crate::cli) struct FilterName(String);

impl FromStr for FilterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_one = crate::config::is_filter_name(text);
        is_one.then(|| Self(text.to_owned())).ok_or_else(|| "not the name of a filter; see wsgate filter ls".to_owned())
    }
}

/// `http://host:port`
#[derive(Clone, Debug)]
pub(in crate::cli) struct AdminUrl {
    authority: String,
    host: String,
    port: u16,
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "not the URL of an admin API; write http://127.0.0.1:9901".to_owned();
        let uri: Uri = text.parse().map_err(|_| form())?;
        let (Some("http"), Some(authority), "/", None) = (uri.scheme_str(), uri.authority(), uri.path(), uri.query())
        else {
            return Err(form());
        };
        let asked = Authority::parse(authority.as_str()).ok_or_else(form)?;
        let port = asked.port.unwrap_or(default_port(false));
        Ok(Self { authority: authority.to_string(), host: asked.bare_host().to_owned(), port })
    }
}

/// Why the gateway was not asked, or did not do it.
#[derive(Debug, Error)]
pub(in crate::cli) enum SteerError {
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("nobody answers on http://{0}; is the gateway running, and is that the address of [admin]?")]
    Nobody(String, #[source] io::Error),
    #[error("http://{0} did not answer within {limit} s", limit = TIMEOUT.as_secs())]
    Timeout(String),
    #[error("http://{0} is not the admin API of wsgate: {1}")]
    NotTheAdminApi(String, String),
    #[error("{0}")]
    Refused(String),
    #[error("cannot read the token in {}", .0.display())]
    TokenFile(PathBuf, #[source] io::Error),
    #[error("{0}: a token is one line of visible ASCII")]
    Token(String),
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

/// Asks, prints, and gives the exit code.
pub(super) fn main(command: SteerCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&SteerError::Start(error)),
    };
    match runtime.block_on(run(command)) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => failed(&SteerError::Output(error)),
        },
        Err(error) => failed(&error),
    }
}

async fn run(command: SteerCommand) -> Result<String, SteerError> {
    match command {
        SteerCommand::Ls { admin, json } => {
            let list = ask(&admin, Method::GET, "/v1/filters", None).await?;
            let Value::Array(filters) = &list else {
                return Err(SteerError::NotTheAdminApi(admin.url.authority, "its answer is no list".to_owned()));
            };
            Ok(if json { format!("{list:#}\n") } else { table(filters) })
        }
        SteerCommand::Rollback { name: FilterName(name), admin } => {
            let path = format!("/v1/filters/{name}/rollback");
            let answer = ask(&admin, Method::POST, &path, Some(json!({}))).await?;
            Ok(rolled_back(&name, &answer))
        }
        SteerCommand::Mode { name: FilterName(name), mode, admin } => {
            let mode = Mode::from(mode);
            let path = format!("/v1/filters/{name}/mode");
            let answer = ask(&admin, Method::POST, &path, Some(json!({ "mode": mode }))).await?;
            Ok(format!("{name}: {mode} (was {})\n", text(&answer["before"])))
        }
    }
}

/// Asks the admin API, or gives it an order; its answer.
pub(in crate::cli) async fn ask(
    admin: &AdminArguments,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, SteerError> {
    let token = token(admin.token_file.as_deref(), std::env::var_os(TOKEN_VARIABLE))?;
    match timeout(TIMEOUT, exchange(&admin.url, token, method, path, body)).await {
        Ok(answered) => answered,
        Err(_) => Err(SteerError::Timeout(admin.url.authority.clone())),
    }
}

/// What `Authorization` says; nothing where there is no token.
fn token(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<HeaderValue>, SteerError> {
    let (from, token) = match (file, variable) {
        (Some(file), _) => {
            let read = SecretFile::new(file.to_owned(), MAX_TOKEN_BYTES).read();
            let read = read.map_err(|error| SteerError::TokenFile(file.to_owned(), error))?;
            (file.display().to_string(), read)
        }
        (None, Some(token)) if !token.is_empty() => (TOKEN_VARIABLE.to_owned(), token.into_encoded_bytes()),
        (None, Some(_) | None) => return Ok(None),
    };
    let mut value = HeaderValue::try_from([b"Bearer ", without_line_break(&token)].concat())
        .map_err(|_| SteerError::Token(from))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// One request on a connection of its own.
async fn exchange(
    url: &AdminUrl,
    token: Option<HeaderValue>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, SteerError> {
    let foreign = |why: String| SteerError::NotTheAdminApi(url.authority.clone(), why);
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
    let stream = stream.map_err(|error| SteerError::Nobody(url.authority.clone(), error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| foreign(error.to_string()))?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, &url.authority);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut request = request.body(Full::new(Bytes::from(body))).map_err(|error| foreign(error.to_string()))?;
    request.headers_mut().extend(token.map(|token| (header::AUTHORIZATION, token)));
    let response = sender.send_request(request).await.map_err(|error| foreign(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| foreign(error.to_string()))?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).map_err(|_| foreign(format!("it answered {status}")))?;
    match (status, answer["detail"].as_str()) {
        (StatusCode::OK, _) => Ok(answer),
        // The listener for clients has problem documents too.
        (status, Some(detail)) if status != StatusCode::UPGRADE_REQUIRED => Err(SteerError::Refused(detail.to_owned())),
        (_, Some(_) | None) => Err(foreign(format!("it answered {status}"))),
    }
}

const COLUMNS: [&str; 8] = ["NAME", "STATE", "MODE", "GENERATION", "SESSIONS", "INSTANCES", "FILE", "ERROR"];

/// One line a filter, and one more for its canary and for its shadow.
fn table(filters: &[Value]) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for filter in filters {
        let name = text(&filter["name"]);
        let mode = text(&filter["mode"]);
        let (sessions, instances) = (count(filter, is_main, "sessions"), count(filter, is_main, "instances"));
        rows.push(row(filter, name.clone(), mode.clone(), sessions, instances));
        for role in ["canary", "shadow"] {
            let candidate = &filter[role];
            if candidate.is_object() {
                let own = |generation: &Value| generation["role"] == role;
                let (sessions, instances) = (count(filter, own, "sessions"), count(filter, own, "instances"));
                let name = format!("{name}@{role} {}%", text(&candidate["percent"]));
                rows.push(row(candidate, name, mode.clone(), sessions, instances));
            }
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        out.push_str(cells.collect::<String>().trim_end());
        out.push('\n');
    }
    out
}

/// Is it the generation that serves, or one that did?
fn is_main(generation: &Value) -> bool {
    generation["role"] != "canary" && generation["role"] != "shadow"
}

fn row(of: &Value, name: String, mode: String, sessions: u64, instances: u64) -> [String; 8] {
    let generation = text(&of["generation"]);
    let (sessions, instances) = (sessions.to_string(), instances.to_string());
    [name, text(&of["state"]), mode, generation, sessions, instances, text(&of["file"]), text(&of["error"])]
}

fn count(filter: &Value, which: impl Fn(&Value) -> bool, key: &str) -> u64 {
    let generations = filter["generations"].as_array().into_iter().flatten();
    generations.filter(|generation| which(generation)).filter_map(|generation| generation[key].as_u64()).sum()
}

/// A string as it is, nothing as `-`; control characters cannot reach the terminal.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

fn rolled_back(name: &str, answer: &Value) -> String {
    let mut out = String::new();
    for done in answer["rolled_back"].as_array().into_iter().flatten() {
        let (from, to, file) = (text(&done["from"]), text(&done["to"]), text(&done["file"]));
        let how_long = match done["persisted"].as_bool() {
            Some(true) => "",
            Some(false) | None => {
                " by this process (a restart loads it again: there is no state_dir, or it cannot be written)"
            }
        };
        out.push_str(&format!("{name}: {to} serves again instead of {from}\n"));
        out.push_str(&format!("{file}, as it was, is not loaded again{how_long}; another file is\n"));
    }
    out
}

#[cfg(test)]
mod tests;
