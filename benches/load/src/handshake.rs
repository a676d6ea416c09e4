//! The opening handshake of a client (RFC 6455, section 4.1), by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The key of the example in RFC 6455 and the answer that belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_MAX_BYTES: usize = 8 * 1024;

/// Connects to `address` and upgrades. Blocking, with a limit of five seconds a step.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    check_response(&read_head(&mut stream)?).with_context(|| format!("{address} did not upgrade the connection"))?;
    Ok(stream)
}

/// Reads up to the empty line, byte for byte: what follows belongs to the frames.
fn read_head(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(
            head.len() < RESPONSE_MAX_BYTES,
            "the answer to the handshake is longer than {RESPONSE_MAX_BYTES} bytes"
        );
        ensure!(stream.read(&mut byte)? == 1, "the connection was closed during the handshake");
        head.push(byte[0]);
    }
    String::from_utf8(head).context("the answer to the handshake is not text")
}

fn check_response(head: &str) -> Result<()> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("101"), "the answer is {status:?}");
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("sec-websocket-accept") {
            ensure!(value.trim() == ACCEPT, "Sec-WebSocket-Accept does not belong to the key");
            return Ok(());
        }
    }
    bail!("Sec-WebSocket-Accept is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_with_the_right_accept_is_taken() {
        let head =
            format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSEC-WEBSOCKET-ACCEPT: {ACCEPT}\r\n\r\n");
        assert!(check_response(&head).is_ok());
    }

    #[test]
    fn everything_else_is_refused() {
        assert!(check_response("HTTP/1.1 502 Bad Gateway\r\n\r\n").is_err());
        assert!(check_response("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        assert!(check_response("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: AAAA\r\n\r\n").is_err());
    }

    #[test]
    fn the_head_ends_at_the_empty_line() {
        let mut input: &[u8] = b"HTTP/1.1 101 X\r\n\r\n\x81\x00";
        assert_eq!(read_head(&mut input).unwrap(), "HTTP/1.1 101 X\r\n\r\n");
        assert_eq!(input, b"\x81\x00");
    }

    #[test]
    fn a_connection_that_ends_early_is_an_error() {
        assert!(read_head(&mut b"HTTP/1.1 101".as_slice()).is_err());
    }
}
