//! Reads the frame headers that go by, before tungstenite sees them (RFC 6455 section 5.2).
//!
//! tungstenite buffers a frame before it looks at limits, swallows a million empty fragments in one read, and turns the
//! close codes 1004, 1005, 1014 and 2500 into one error. So the limits are enforced here, on the declared lengths, and a
//! Close frame is taken out of the stream: from its first byte on nothing reaches tungstenite, which therefore stays able
//! to write until the session decides to answer.

use crate::message::CloseFrame;

/// A message may arrive in this many frames. 4 MiB in fragments of 1 KiB still pass.
const MAX_FRAGMENTS: u32 = 4096;
/// Pings, pongs and empty fragments that a peer may send in one second.
pub(super) const MAX_CONTROL_FRAMES_PER_SECOND: u32 = 500;
/// Two bytes, eight of extended length, four of mask.
const MAX_HEADER_BYTES: usize = 14;
const MAX_CONTROL_PAYLOAD_BYTES: usize = 125;

const OPCODE_CONTINUATION: u8 = 0x0;
const OPCODE_CLOSE: u8 = 0x8;

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Violation {
    /// Breaks RFC 6455: 1002.
    Protocol,
    /// Text that is not UTF-8: 1007.
    Utf8,
    /// A message above the limit, already by its declared length: 1009.
    TooBig,
    /// More fragments or control frames than anybody needs: 1008.
    Flood,
}

impl Violation {
    /// What the peer that did it is told.
    #[must_use]
    pub fn close_frame(self) -> CloseFrame {
        match self {
            Self::Protocol => CloseFrame::new(1002, "protocol error"),
            Self::Utf8 => CloseFrame::new(1007, "invalid UTF-8"),
            Self::TooBig => CloseFrame::new(1009, "message too big"),
            Self::Flood => CloseFrame::new(1008, "too many frames"),
        }
    }
}

/// Where the stream ends for tungstenite.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Halt {
    Close(CloseFrame),
    Violation(Violation),
}

/// The scanner of one direction of one socket.
#[derive(Debug)]
pub(super) struct FrameScan {
    /// Servers receive masked frames, clients unmasked ones.
    expect_masked: bool,
    max_payload_bytes: u64,
    /// A header (and the whole of a Close frame) that is not complete yet.
    partial: Vec<u8>,
    payload_left_bytes: u64,
    /// Of the message whose fragments are arriving.
    message_bytes: u64,
    fragments: u32,
    in_message: bool,
    control_frames: u32,
    /// Last frames of messages, and control frames, whose header went by.
    announced: u64,
    halt: Option<Halt>,
}

struct Header {
    fin: bool,
    reserved_bits: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload_bytes: u64,
    header_bytes: usize,
}

impl FrameScan {
    pub(super) fn new(expect_masked: bool, max_payload_bytes: usize) -> Self {
        Self {
            expect_masked,
            max_payload_bytes: max_payload_bytes as u64,
            partial: Vec::new(),
            payload_left_bytes: 0,
            message_bytes: 0,
            fragments: 0,
            in_message: false,
            control_frames: 0,
            announced: 0,
            halt: None,
        }
    }

    /// Set once a Close frame or a violation was seen; nothing is passed on from there.
    pub(super) fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// True between two messages: everything that was passed on forms whole messages.
    pub(super) fn at_boundary(&self) -> bool {
        self.partial.is_empty() && self.payload_left_bytes == 0 && !self.in_message
    }

    /// Messages and control frames so far, the one that is arriving included.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// Control frames since the last call.
    pub(super) fn take_control_frames(&mut self) -> u32 {
        std::mem::take(&mut self.control_frames)
    }

    /// Looks at bytes that have arrived and says how many of them may be passed on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.halt.is_none() {
            if self.payload_left_bytes > 0 {
                let skipped = self.payload_left_bytes.min((bytes.len() - at) as u64);
                self.payload_left_bytes -= skipped;
                at += usize::try_from(skipped).unwrap_or(bytes.len() - at);
                continue;
            }
            let frame_start = at;
            match self.header(bytes, &mut at) {
                Some(_) if self.halt.is_some() => return frame_start,
                Some(header) => {
                    if let Err(violation) = self.admit(&header) {
                        self.halt = Some(Halt::Violation(violation));
                        return frame_start;
                    }
                }
                None if self.is_close() => return frame_start,
                None => return bytes.len(),
            }
        }
        at
    }

    /// The next header, once it is complete. A Close frame is kept here with its payload and ends in `halt`.
    fn header(&mut self, bytes: &[u8], at: &mut usize) -> Option<Header> {
        let rest = &bytes[*at..];
        if self.partial.is_empty() && rest[0] & 0x0f != OPCODE_CLOSE {
            if let Some(header) = Header::parse(rest) {
                *at += header.header_bytes;
                return Some(header);
            }
            self.partial.extend_from_slice(rest);
            *at = bytes.len();
            return None;
        }
        let before = self.partial.len();
        let wanted = MAX_HEADER_BYTES + MAX_CONTROL_PAYLOAD_BYTES - before;
        self.partial.extend_from_slice(&rest[..rest.len().min(wanted)]);
        let Some(header) = Header::parse(&self.partial) else {
            *at = bytes.len();
            return None;
        };
        if header.opcode != OPCODE_CLOSE {
            *at += header.header_bytes - before;
            self.partial = Vec::new();
            return Some(header);
        }
        self.halt = self.close(&header);
        self.halt.is_some().then_some(header)
    }

    fn is_close(&self) -> bool {
        self.partial.first().is_some_and(|first| first & 0x0f == OPCODE_CLOSE)
    }

    /// Counts a frame and checks it against the limits.
    fn admit(&mut self, header: &Header) -> Result<(), Violation> {
        if header.reserved_bits || header.mask.is_some() != self.expect_masked {
            return Err(Violation::Protocol);
        }
        let control = header.opcode & 0x8 != 0;
        if control {
            if header.payload_bytes > MAX_CONTROL_PAYLOAD_BYTES as u64 || !header.fin {
                return Err(Violation::Protocol);
            }
            self.count_control()?;
        } else {
            if header.opcode != OPCODE_CONTINUATION {
                self.message_bytes = 0;
                self.fragments = 0;
            }
            self.message_bytes = self.message_bytes.saturating_add(header.payload_bytes);
            if self.message_bytes > self.max_payload_bytes {
                return Err(Violation::TooBig);
            }
            self.in_message = !header.fin;
            if !header.fin {
                self.fragments += 1;
                if self.fragments > MAX_FRAGMENTS {
                    return Err(Violation::Flood);
                }
                if header.payload_bytes == 0 {
                    self.count_control()?;
                }
            }
        }
        self.announced += u64::from(header.fin);
        self.payload_left_bytes = header.payload_bytes;
        Ok(())
    }

    fn count_control(&mut self) -> Result<(), Violation> {
        self.control_frames += 1;
        if self.control_frames > MAX_CONTROL_FRAMES_PER_SECOND { Err(Violation::Flood) } else { Ok(()) }
    }

    /// The Close frame in `partial`, once it is complete.
    fn close(&self, header: &Header) -> Option<Halt> {
        let payload_bytes = match usize::try_from(header.payload_bytes) {
            Ok(bytes) if bytes <= MAX_CONTROL_PAYLOAD_BYTES => bytes,
            _ => return Some(Halt::Violation(Violation::Protocol)),
        };
        if !header.fin || header.reserved_bits || header.mask.is_some() != self.expect_masked {
            return Some(Halt::Violation(Violation::Protocol));
        }
        let mut payload = self.partial.get(header.header_bytes..header.header_bytes + payload_bytes)?.to_vec();
        if let Some(mask) = header.mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        Some(match payload.as_slice() {
            [] => Halt::Close(CloseFrame::default()),
            [_] => Halt::Violation(Violation::Protocol),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                match std::str::from_utf8(reason) {
                    _ if !CloseFrame::is_sendable(code) => Halt::Violation(Violation::Protocol),
                    Ok(reason) => Halt::Close(CloseFrame { code: Some(code), reason: reason.to_owned() }),
                    Err(_) => Halt::Violation(Violation::Utf8),
                }
            }
        })
    }
}

impl Header {
    /// `None` while bytes are missing.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (payload_bytes, mut header_bytes) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let mask = if second & 0x80 == 0 {
            None
        } else {
            let mask = bytes.get(header_bytes..header_bytes + 4)?.try_into().ok()?;
            header_bytes += 4;
            Some(mask)
        };
        Some(Self {
            fin: first & 0x80 != 0,
            reserved_bits: first & 0x70 != 0,
            opcode: first & 0x0f,
            mask,
            payload_bytes,
            header_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(fin: bool, opcode: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::from(fin) << 7 | opcode];
        let masked = if mask.is_some() { 0x80 } else { 0 };
        match payload.len() {
            short @ 0..=125 => bytes.push(masked | short as u8),
            medium @ 126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(masked | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn close(code: u16, reason: &[u8]) -> Vec<u8> {
        frame(true, 8, Some([1, 2, 3, 4]), &[&code.to_be_bytes(), reason].concat())
    }

    /// Feeds in pieces; returns how much was passed on and the halt.
    fn scan(scan: &mut FrameScan, bytes: &[u8], piece: usize) -> (usize, Option<Halt>) {
        let passed = bytes.chunks(piece).map(|piece| scan.feed(piece)).sum();
        (passed, scan.halt().cloned())
    }

    proptest! {
        #[test]
        fn whole_messages_pass_and_the_close_frame_is_taken_out(
            payloads in prop::collection::vec((any::<bool>(), 0usize..70_000), 0..6),
            piece in 1usize..5000,
            code in 3000u16..5000,
        ) {
            let mut bytes = Vec::new();
            for (binary, length) in &payloads {
                bytes.extend(frame(true, if *binary { 2 } else { 1 }, Some([9, 8, 7, 6]), &vec![b'x'; *length]));
            }
            let messages = bytes.len();
            bytes.extend(close(code, "bye".as_bytes()));
            let mut scanner = FrameScan::new(true, 1 << 20);
            let (passed, halt) = scan(&mut scanner, &bytes, piece);
            prop_assert_eq!(passed, messages);
            prop_assert_eq!(halt, Some(Halt::Close(CloseFrame::new(code, "bye"))));
        }

        #[test]
        fn any_bytes_neither_panic_nor_pass_after_a_halt(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            piece in 1usize..50,
        ) {
            let mut scanner = FrameScan::new(true, 100);
            for piece in bytes.chunks(piece) {
                let halted = scanner.halt().is_some();
                let passed = scanner.feed(piece);
                prop_assert!(passed <= piece.len());
                prop_assert!(!halted || passed == 0);
            }
        }
    }

    #[test]
    fn a_declared_length_above_the_limit_halts_before_any_payload() {
        let mut scanner = FrameScan::new(true, 1000);
        let bytes = frame(true, 2, Some([0; 4]), &[0; 1001]);
        assert_eq!(scan(&mut scanner, &bytes[..8], 100), (0, Some(Halt::Violation(Violation::TooBig))));
    }

    #[test]
    fn fragments_add_up() {
        let mut scanner = FrameScan::new(false, 1000);
        let first = frame(false, 2, None, &[0; 600]);
        let second = frame(true, 0, None, &[0; 401]);
        assert_eq!(scan(&mut scanner, &first, 4096), (604, None));
        assert!(!scanner.at_boundary());
        assert_eq!(scan(&mut scanner, &second, 4096), (0, Some(Halt::Violation(Violation::TooBig))));
    }

    #[test]
    fn tiny_fragments_and_control_floods_halt() {
        let mut fragments = FrameScan::new(false, 1 << 20);
        let mut bytes = frame(false, 1, None, b"a");
        for _ in 0..MAX_FRAGMENTS {
            bytes.extend(frame(false, 0, None, b"a"));
        }
        assert_eq!(scan(&mut fragments, &bytes, 777).1, Some(Halt::Violation(Violation::Flood)));

        let mut pings = FrameScan::new(false, 1 << 20);
        let bytes = frame(true, 9, None, b"").repeat(MAX_CONTROL_FRAMES_PER_SECOND as usize + 1);
        assert_eq!(scan(&mut pings, &bytes, 777).1, Some(Halt::Violation(Violation::Flood)));
    }

    #[test]
    fn broken_close_frames_are_violations() {
        for (bytes, violation) in [
            (close(1005, b""), Violation::Protocol),
            (close(2500, b""), Violation::Protocol),
            (close(1000, &[0xff]), Violation::Utf8),
            (frame(true, 8, Some([0; 4]), b"x"), Violation::Protocol),
            (frame(true, 8, None, b""), Violation::Protocol),
            (frame(false, 8, Some([0; 4]), b""), Violation::Protocol),
            (frame(true, 8, Some([0; 4]), &[3; 126]), Violation::Protocol),
        ] {
            for piece in [1, 2, 500] {
                let mut scanner = FrameScan::new(true, 1000);
                assert_eq!(scan(&mut scanner, &bytes, piece), (0, Some(Halt::Violation(violation))), "{bytes:?}");
            }
        }
    }

    #[test]
    fn frames_of_the_wrong_masking_and_reserved_bits_are_violations() {
        let violation = Some(Halt::Violation(Violation::Protocol));
        assert_eq!(scan(&mut FrameScan::new(true, 10), &frame(true, 1, None, b"a"), 9).1, violation);
        assert_eq!(scan(&mut FrameScan::new(false, 10), &frame(true, 1, Some([1; 4]), b"a"), 9).1, violation);
        assert_eq!(scan(&mut FrameScan::new(false, 10), &[0xc1, 0], 9).1, violation);
    }
}
