//! HTTP and WebSocket by hand, for what no library would send or show.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::http::Response;

/// Opcodes of RFC 6455 section 5.2.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What RFC 6455 section 1.3 gives for that key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One end of a TCP connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    masks: bool,
}

/// A frame as it was received.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    /// FIN, RSV and the opcode.
    pub(crate) first_byte: u8,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn opcode(&self) -> u8 {
        self.first_byte & 0xF
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).unwrap()
    }

    /// Code and reason of a Close frame; 1005 where it was empty.
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode(), CLOSE, "{self:?}");
        match self.payload.split_first_chunk::<2>() {
            Some((code, reason)) => (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap()),
            None => (1005, String::new()),
        }
    }
}

/// The lines of an opening request that nothing is wrong with; tests take some away or add others.
pub(crate) fn request(host: impl std::fmt::Display, path: &str) -> Vec<String> {
    vec![
        format!("GET {path} HTTP/1.1"),
        format!("Host: {host}"),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13".to_owned(),
    ]
}

impl Wire {
    /// A TCP connection, nothing sent.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::client_of(TcpStream::connect(address).unwrap())
    }

    /// A TCP connection from an address of this machine, such as 127.0.0.2, which is another client than 127.0.0.1.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let connected = super::load::run(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            socket.connect(address).await?.into_std()
        });
        let stream = connected.unwrap();
        stream.set_nonblocking(false).unwrap();
        Self::client_of(stream)
    }

    /// An open WebSocket from such an address; or the refusal.
    pub(crate) fn try_open_from(source: [u8; 4], address: SocketAddr, path: &str) -> Result<Self, Response> {
        let mut wire = Self::connect_from(source, address);
        let response = wire.ask(&request(address, path));
        if response.status == 101 { Ok(wire) } else { Err(response) }
    }

    /// The client's end.
    pub(crate) fn client_of(stream: TcpStream) -> Self {
        Self { masks: true, ..Self::server_of(stream) }
    }

    /// The server's end of an accepted connection.
    pub(crate) fn server_of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), masks: false }
    }

    /// An open WebSocket.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, &request(address, path)).0
    }

    /// An open WebSocket, asked for with these lines.
    pub(crate) fn open_with(address: SocketAddr, lines: &[String]) -> (Self, Response) {
        let mut wire = Self::connect(address);
        let response = wire.ask(lines);
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        (wire, response)
    }

    /// Sends an opening request and reads the answer's head.
    pub(crate) fn ask(&mut self, lines: &[String]) -> Response {
        self.write(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
        Response::parse_head(&self.head().expect("an answer"))
    }

    /// The server's part: reads an opening request, answers 101. Returns the request's head.
    pub(crate) fn accept(&mut self, more_headers: &str) -> String {
        let request = self.head().expect("a request");
        let key = request.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        let accept = accept_for(&key.expect("a key"));
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        self.write(format!("{head}Sec-WebSocket-Accept: {accept}\r\n{more_headers}\r\n").as_bytes());
        request
    }

    /// Reads up to the empty line; `None` where the connection ends first.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// So many bytes that come next.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "only {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    /// Everything up to the first `end` behind `after`.
    pub(crate) fn until(&mut self, after: &str, end: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if text.find(after).is_some_and(|at| text[at..].contains(end)) {
                self.buffer.clear();
                return text;
            }
            assert!(self.fill(), "only {text:?}");
        }
    }

    /// How much was read ahead.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// What still comes, up to the end of the stream, as text.
    pub(crate) fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// Sends bytes as they are; false where the peer has gone away, which is no error here: what it sent before tells.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a whole message or control frame; false where the peer has gone away.
    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) -> bool {
        self.frame(FIN | opcode, payload)
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends a Close frame.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat());
    }

    /// Sends a frame with this first byte, masked where a client has to.
    pub(crate) fn frame(&mut self, first_byte: u8, payload: &[u8]) -> bool {
        self.write(&encode(first_byte, payload, self.masks))
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = decode(&self.buffer) {
                self.buffer.drain(..used);
                return Some(frame);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next text message, which must be in one frame.
    pub(crate) fn next_text(&mut self) -> String {
        let frame = self.next().expect("a message");
        assert_eq!(frame.first_byte, FIN | TEXT, "{frame:?}");
        frame.text()
    }

    /// The code and reason of the Close frame that must come next, messages before it ignored.
    pub(crate) fn next_close(&mut self) -> (u16, String) {
        loop {
            let frame = self.next().expect("a Close frame before the end of the stream");
            if frame.opcode() == CLOSE {
                return frame.close();
            }
        }
    }

    /// Reads on until the other side ends the TCP connection; false when it has not done so in time.
    pub(crate) fn ends(&mut self, within: Duration) -> bool {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let mut sink = [0; 16384];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut part = [0; 65536];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&part[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// A frame's bytes, with the shortest length field.
pub(crate) fn encode(first_byte: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = header(first_byte, payload.len() as u64, masked);
    if masked {
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// First byte and length field, which may declare more than is ever sent. The mask follows it.
pub(crate) fn header(first_byte: u8, length: u64, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first_byte];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => bytes.push(mask_bit | short),
        (_, Ok(middle)) => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first_byte, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let (length, rest) = match second & 0x7F {
        126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        short => (u64::from(short), rest),
    };
    let masked = second & 0x80 != 0;
    let (mask, rest) =
        if masked { rest.split_first_chunk().map(|(mask, rest)| (*mask, rest))? } else { ([0; 4], rest) };
    let length = usize::try_from(length).unwrap();
    let payload = rest.get(..length)?.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((Frame { first_byte, masked, payload }, bytes.len() - rest.len() + length))
}

/// RFC 6455 section 4.2.2, step 5.4.
pub(crate) fn accept_for(key: &str) -> String {
    use sha1::Digest;
    let digest = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    data_encoding::BASE64.encode(&digest)
}
