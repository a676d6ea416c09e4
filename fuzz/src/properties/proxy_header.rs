//! A PROXY header means the same whatever pieces it comes in, and not a byte behind it is taken from the socket.

use std::{
    cell::OnceCell,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    runtime::{Builder, Runtime},
};

use super::proxy_header::{Sender, read};
use crate::pieces::Pieces;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// What was read, and what was left in the socket.
type Read = (Result<Sender, &'static str>, Vec<u8>);

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let Some(input) = Pieces::of(input) else { return false };
    let (whole, cut) = (read_from(&input.whole()), read_from(&input.cut()));
    assert_eq!(whole.0, cut.0, "in pieces");
    let Ok(sender) = whole.0 else { return false };

    let header_bytes = header_bytes(input.bytes);
    assert_eq!(whole.1, &input.bytes[header_bytes..], "what follows the header");
    assert_eq!(cut.1, &input.bytes[header_bytes..], "what follows the header, in pieces");
    if let Sender::Named(client) = sender {
        let header = &input.bytes[..header_bytes];
        assert_eq!(Some(client), named(header), "{:?}", String::from_utf8_lossy(header));
    }
    true
}

fn read_from(pieces: &[&[u8]]) -> Read {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| Builder::new_current_thread().enable_io().build().expect("a runtime"));
        runtime.block_on(async {
            // It behaves like one of TCP, and no port is used up.
            let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
            let server = OwnedFd::from(server.into_std().expect("a socket"));
            let mut server = TcpStream::from_std(server.into()).expect("a socket");
            let write = async {
                for piece in pieces {
                    client.write_all(piece).await.expect("an open socket");
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.expect("an open socket");
            };
            // All is read, so that a writer of many small pieces finds room.
            let read = async {
                let (sender, mut left) = (read(&mut server).await, Vec::new());
                server.read_to_end(&mut left).await.expect("an open socket");
                (sender, left)
            };
            let ((sender, left), ()) = tokio::join!(read, write);
            (sender.map_err(|error| error.label()), left)
        })
    })
}

fn header_bytes(bytes: &[u8]) -> usize {
    if bytes.starts_with(SIGNATURE) {
        return 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    assert!(end <= 107, "a line of {end} bytes");
    end
}

/// The source address of a header that is taken.
fn named(header: &[u8]) -> Option<SocketAddr> {
    if !header.starts_with(SIGNATURE) {
        let line = std::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
        let ["PROXY", family, source, target, port, target_port] = line.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let (source, target): (IpAddr, IpAddr) = (source.parse().ok()?, target.parse().ok()?);
        let right = if family == "TCP4" { source.is_ipv4() } else { family == "TCP6" && source.is_ipv6() };
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if !digits(port) || !digits(target_port) {
            return None;
        }
        return (right && source.is_ipv4() == target.is_ipv4()).then_some(SocketAddr::new(source, port.parse().ok()?));
    }
    if header[12] != 0x21 {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(header.get(at..at + 2)?.try_into().ok()?));
    match header[13] {
        0x11 => Some((<[u8; 4]>::try_from(header.get(16..20)?).ok()?, port(24)?).into()),
        0x21 => Some((<[u8; 16]>::try_from(header.get(16..32)?).ok()?, port(48)?).into()),
        _ => None,
    }
}

fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[version_command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let v4 = [192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 7, 0, 80]].concat();
    let headers = [
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(),
        b"PROXY UNKNOWN ff:: ff:: 1 1\r\n".to_vec(),
        v2(0x21, 0x11, &v4),
        v2(0x21, 0x11, &[&v4[..], &[4, 0, 3, 1, 2, 3]].concat()),
        v2(0x21, 0x21, &v6),
        v2(0x20, 0x00, &[]),
        v2(0x21, 0x31, &[b'/'; 216]),
        v2(0x21, 0x12, &v4),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    let with_more = headers.iter().map(|header| [header, &b"GET /\n\n"[..]].concat());
    with_more.flat_map(|bytes| [[1, 1, 1], [13, 3, 0]].map(|cut| Pieces::seed(0, cut, &bytes))).collect()
}
