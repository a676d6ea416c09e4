//! WebSocket frames (RFC 6455, section 5): masked ones written by a client, unmasked ones read from a server.

use thiserror::Error;

/// The key of every frame that is sent. A fixed key lets a message be masked once and patched for each sending; it is not zero, so
/// that whoever unmasks has the work that it has with a browser.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const CONTROL_MAX_BYTES: usize = 125;

/// What a data frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// Why the bytes of a server are not the frames that this tool can read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set, although no extension was agreed on.
    #[error("a frame has reserved bits set")]
    Reserved,
    /// Servers must not mask.
    #[error("a frame from the server is masked")]
    Masked,
    /// An opcode that RFC 6455 does not define.
    #[error("a frame has the unknown opcode {0}")]
    Opcode(u8),
    /// A control frame that is fragmented or longer than 125 bytes.
    #[error("a control frame is fragmented or too long")]
    Control,
    /// A continuation without a start, or a start inside another message.
    #[error("a fragment is out of place")]
    Fragment,
    /// A length that does not fit this machine.
    #[error("a frame declares an impossible length")]
    Length,
}

/// The next thing that a server's bytes contain.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Some bytes of a data message.
    Data {
        /// Of the whole message.
        kind: Kind,
        /// What follows the chunk before.
        chunk: &'a [u8],
        /// Whether the message ends with it.
        last: bool,
    },
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    /// Asked for by nobody here.
    Pong,
    /// The code, where one was given.
    Close(Option<u16>),
}

/// Appends one whole masked data frame to `out` and returns where in `out` its payload begins.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> usize {
    let opcode = match kind {
        Kind::Text => 0x1,
        Kind::Binary => 0x2,
    };
    encode_opcode(opcode, payload, out)
}

/// Appends a masked pong.
pub fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    encode_opcode(0xa, payload, out);
}

/// Appends a masked close frame with code 1000.
pub fn encode_close(out: &mut Vec<u8>) {
    encode_opcode(0x8, &1000_u16.to_be_bytes(), out);
}

fn encode_opcode(opcode: u8, payload: &[u8], out: &mut Vec<u8>) -> usize {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend(payload.iter().enumerate().map(|(index, byte)| mask_byte(index, *byte)));
    start
}

/// The byte at `index` of a payload as it is on the wire.
pub fn mask_byte(index: usize, byte: u8) -> u8 {
    byte ^ MASK[index % MASK.len()]
}

/// Reads frames from a stream of bytes that may be cut anywhere. Data payloads are handed on in place, never gathered.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; 10],
    header_bytes: usize,
    body: Option<Body>,
    message: Option<Kind>,
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    opcode: u8,
    last_frame: bool,
    remaining: usize,
}

impl Decoder {
    /// Takes the next piece off the front of `input`; `None` where more bytes are needed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        loop {
            let Some(mut body) = self.body else {
                let Some(body) = self.read_header(input)? else { return Ok(None) };
                self.body = Some(body);
                continue;
            };
            let (chunk, rest) = input.split_at(body.remaining.min(input.len()));
            if chunk.is_empty() && body.remaining > 0 {
                return Ok(None);
            }
            *input = rest;
            body.remaining -= chunk.len();
            let frame_ended = body.remaining == 0;
            self.body = if frame_ended { None } else { Some(body) };
            if body.opcode >= 0x8 {
                self.control.extend_from_slice(chunk);
                if frame_ended {
                    return Ok(Some(control(body.opcode, std::mem::take(&mut self.control))));
                }
                continue;
            }
            let Some(kind) = self.message else { return Err(FrameError::Fragment) };
            let last = frame_ended && body.last_frame;
            if last {
                self.message = None;
            }
            return Ok(Some(Piece::Data { kind, chunk, last }));
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Body>, FrameError> {
        while self.header_bytes < self.header_needed() {
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            self.header[self.header_bytes] = *byte;
            self.header_bytes += 1;
            *input = rest;
        }
        let length_bytes = self.header_bytes - 2;
        self.header_bytes = 0;
        let [first, second, ..] = self.header;
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        if second & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
        let length = match length_bytes {
            0 => u64::from(second),
            count => self.header[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let remaining = usize::try_from(length).map_err(|_| FrameError::Length)?;
        let body = Body { opcode: first & 0x0f, last_frame: first & 0x80 != 0, remaining };
        self.check(body)?;
        Ok(Some(body))
    }

    fn header_needed(&self) -> usize {
        match self.header[1] & 0x7f {
            _ if self.header_bytes < 2 => 2,
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn check(&mut self, body: Body) -> Result<(), FrameError> {
        match (body.opcode, self.message) {
            (0x0, Some(_)) => Ok(()),
            (0x1, None) => {
                self.message = Some(Kind::Text);
                Ok(())
            }
            (0x2, None) => {
                self.message = Some(Kind::Binary);
                Ok(())
            }
            (0x0..=0x2, _) => Err(FrameError::Fragment),
            (0x8..=0xa, _) if body.last_frame && body.remaining <= CONTROL_MAX_BYTES => Ok(()),
            (0x8..=0xa, _) => Err(FrameError::Control),
            (opcode, _) => Err(FrameError::Opcode(opcode)),
        }
    }
}

fn control(opcode: u8, payload: Vec<u8>) -> Piece<'static> {
    match opcode {
        0x8 => Piece::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x9 => Piece::Ping(payload),
        _ => Piece::Pong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server sends: the same frame without a mask.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(length as u8),
            length @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// Feeds `bytes` in chunks of `step` and gathers messages as (kind, payload).
    fn decode(bytes: &[u8], step: usize) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let mut decoder = Decoder::default();
        let (mut messages, mut gathered) = (Vec::new(), Vec::new());
        for mut input in bytes.chunks(step) {
            while let Some(piece) = decoder.next(&mut input)? {
                if let Piece::Data { kind, chunk, last } = piece {
                    gathered.extend_from_slice(chunk);
                    if last {
                        messages.push((kind, std::mem::take(&mut gathered)));
                    }
                }
            }
            assert!(input.is_empty(), "the decoder takes everything that it is given");
        }
        Ok(messages)
    }

    #[test]
    fn a_client_frame_is_final_masked_and_of_the_shortest_length_form() {
        for (length, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut frame = Vec::new();
            let start = encode(Kind::Binary, &vec![7; length], &mut frame);
            assert_eq!((start, frame.len()), (header, header + length));
            assert_eq!((frame[0], frame[1] & 0x80), (0x82, 0x80));
            assert!(frame[start..].iter().enumerate().all(|(index, byte)| mask_byte(index, *byte) == 7));
        }
    }

    #[test]
    fn messages_of_every_length_form_survive_any_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut bytes = server_frame(0x82, &payload);
            bytes.extend(server_frame(0x81, b"end"));
            for step in [1, 2, 3, 7, 4096, bytes.len()] {
                let expected = vec![(Kind::Binary, payload.clone()), (Kind::Text, b"end".to_vec())];
                assert_eq!(decode(&bytes, step), Ok(expected));
            }
        }
    }

    #[test]
    fn fragments_join_around_a_ping() {
        let mut bytes = server_frame(0x01, b"hel");
        bytes.extend(server_frame(0x89, b"?"));
        bytes.extend(server_frame(0x80, b"lo"));
        assert_eq!(decode(&bytes, 2), Ok(vec![(Kind::Text, b"hello".to_vec())]));
    }

    #[test]
    fn control_frames_are_told_apart() {
        let mut bytes = server_frame(0x89, b"now");
        bytes.extend(server_frame(0x8a, b""));
        bytes.extend(server_frame(0x88, &[0x03, 0xf0, b'x']));
        let (mut decoder, mut input) = (Decoder::default(), bytes.as_slice());
        assert_eq!(decoder.next(&mut input), Ok(Some(Piece::Ping(b"now".to_vec()))));
        assert_eq!(decoder.next(&mut input), Ok(Some(Piece::Pong)));
        assert_eq!(decoder.next(&mut input), Ok(Some(Piece::Close(Some(1008)))));
        assert_eq!(decoder.next(&mut input), Ok(None));
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert_eq!(decode(&[0xc1, 0], 2), Err(FrameError::Reserved));
        assert_eq!(decode(&[0x81, 0x80], 2), Err(FrameError::Masked));
        assert_eq!(decode(&[0x83, 0], 2), Err(FrameError::Opcode(3)));
        assert_eq!(decode(&[0x80, 0], 2), Err(FrameError::Fragment));
        assert_eq!(decode(&[0x01, 0, 0x81, 0], 4), Err(FrameError::Fragment));
        assert_eq!(decode(&[0x09, 0], 2), Err(FrameError::Control));
        assert_eq!(decode(&[0x89, 126, 0, 126], 4), Err(FrameError::Control));
    }
}
