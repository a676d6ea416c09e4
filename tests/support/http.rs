//! One HTTP/1.1 exchange over a plain socket, byte for byte.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// Parses a head (without the empty line).
    pub(crate) fn parse_head(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an HTTP answer: {head:?}"));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { status, headers, body: String::new() }
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// `GET path`, on a connection of its own; `Err` where nobody answers.
pub(crate) fn try_get(address: SocketAddr, path: &str) -> std::io::Result<Response> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// `GET path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|error| panic!("GET http://{address}{path}: {error}"))
}

/// A request with a JSON body, as operators' tools send it.
pub(crate) fn order(address: SocketAddr, method: &str, path: &str, json: &str) -> Response {
    let length = json.len();
    let head = format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}");
    request(address, &format!("{method} {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n{json}"))
        .unwrap_or_else(|error| panic!("{method} http://{address}{path}: {error}"))
}

/// Sends the bytes as they are and reads until the server closes, or until the body is complete.
pub(crate) fn request(address: SocketAddr, bytes: &str) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(bytes.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 16384];
    loop {
        if let Some(response) = complete(&answer) {
            return Ok(response);
        }
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(std::io::Error::other(format!("closed after {} bytes", answer.len())));
    };
    Ok(Response { body: body.to_owned(), ..Response::parse_head(head) })
}

/// The response, where `Content-Length` (or a status without a body) says that all of it is there.
fn complete(bytes: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let response = Response::parse_head(head);
    let length = match response.status {
        101 | 204 => 0,
        _ => response.header("content-length")?.parse::<usize>().ok()?,
    };
    (body.len() >= length).then(|| Response { body: body[..length].to_owned(), ..response })
}
