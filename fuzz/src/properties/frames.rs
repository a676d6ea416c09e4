//! Frames are cut from the stream in the same way whatever pieces they come in, and what is passed on keeps the limits.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::{
    self,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::scan::{FrameScan, Halt, MAX_CONTROL_FRAMES_PER_SECOND, Violation};
use crate::{message::CloseFrame, pieces::Pieces};

/// As in `scan`, which shows it to nobody.
const MAX_FRAGMENTS: u32 = 4096;
/// The longest header of a frame.
const MAX_HEADER_BYTES: usize = 14;

#[derive(Debug, PartialEq)]
struct Seen {
    halt: Option<Halt>,
    passed_bytes: usize,
    announced: u64,
    at_boundary: bool,
}

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let Some(input) = Pieces::of(input) else { return false };
    let masked = input.choices & 1 == 0;
    let limit = [1 << 20, 0, 125, 1000][usize::from(input.choices >> 1 & 3)];
    let (whole, _) = scan(&input.whole(), masked, limit);
    let (cut, passed) = scan(&input.cut(), masked, limit);
    let expected = expected(input.bytes, masked, limit as u64);

    assert_eq!(whole, expected, "another reading of the same bytes");
    assert_eq!((&whole.halt, whole.announced), (&cut.halt, cut.announced), "in pieces");
    if let Some(Halt::Violation(_)) = cut.halt {
        // What had come of the header before it was complete went on.
        let header = whole.passed_bytes..whole.passed_bytes + MAX_HEADER_BYTES;
        assert!(header.contains(&cut.passed_bytes), "{whole:?} {cut:?}");
    } else {
        assert_eq!(whole, cut, "in pieces");
    }
    read(&passed, masked, limit, cut.announced);
    whole.halt.is_none() && whole.announced > 0 || matches!(whole.halt, Some(Halt::Close(_)))
}

fn scan(pieces: &[&[u8]], masked: bool, limit: usize) -> (Seen, Vec<u8>) {
    let mut scan = FrameScan::new(masked, limit);
    let mut passed = Vec::new();
    for piece in pieces {
        let halted = scan.halt().is_some();
        let count = scan.feed(piece);
        assert!(count <= piece.len() && (!halted || count == 0));
        passed.extend(&piece[..count]);
    }
    assert!(scan.take_control_frames() <= MAX_CONTROL_FRAMES_PER_SECOND + 1);
    let seen = Seen {
        halt: scan.halt().cloned(),
        passed_bytes: passed.len(),
        announced: scan.announced(),
        // Nobody asks after a halt.
        at_boundary: scan.halt().is_none() && scan.at_boundary(),
    };
    (seen, passed)
}

/// The same from RFC 6455 section 5.2 and the limits, frame by frame, all bytes in view.
fn expected(bytes: &[u8], masked: bool, limit: u64) -> Seen {
    let (mut at, mut announced, mut message, mut fragments, mut controls, mut open) = (0, 0, 0_u64, 0, 0, false);
    let seen = |halt, passed_bytes, announced, at_boundary| Seen { halt, passed_bytes, announced, at_boundary };
    loop {
        let rest = &bytes[at..];
        let stop = |violation| seen(Some(Halt::Violation(violation)), at, announced, false);
        let Some(&first) = rest.first() else { return seen(None, at, announced, !open) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let Some((length, payload_at)) = lengths(rest) else {
            // A Close frame is kept back from its first byte on.
            let passed = if opcode == 8 { at } else { bytes.len() };
            return seen(None, passed, announced, false);
        };
        let is_masked = rest[1] & 0x80 != 0;
        let wrong = first & 0x70 != 0 || is_masked != masked || opcode >= 8 && (!fin || length > 125);
        if wrong {
            return stop(Violation::Protocol);
        }
        let payload_end = length.saturating_add(payload_at as u64);
        if opcode == 8 {
            let Some(payload) = rest.get(payload_at..payload_end as usize) else {
                return seen(None, at, announced, false);
            };
            let key = if is_masked { &rest[payload_at - 4..payload_at] } else { &[0; 4][..] };
            let payload: Vec<u8> = payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]).collect();
            return seen(Some(close(&payload)), at, announced, false);
        }
        if opcode >= 8 || !fin && length == 0 {
            controls += 1;
        }
        if opcode < 8 {
            if opcode > 0 {
                (message, fragments) = (0, 0);
            }
            message = message.saturating_add(length);
            open = !fin;
            fragments += u32::from(!fin);
            if message > limit {
                return stop(Violation::TooBig);
            }
        }
        if fragments > MAX_FRAGMENTS || controls > MAX_CONTROL_FRAMES_PER_SECOND {
            return stop(Violation::Flood);
        }
        announced += u64::from(fin);
        if payload_end > rest.len() as u64 {
            return seen(None, bytes.len(), announced, false);
        }
        at += payload_end as usize;
    }
}

/// The length of the payload and where it begins; `None` while the header is not complete.
fn lengths(frame: &[u8]) -> Option<(u64, usize)> {
    let second = *frame.get(1)?;
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = match extended {
        0 => u64::from(second & 0x7f),
        count => frame.get(2..2 + count)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let payload_at = 2 + extended + if second & 0x80 != 0 { 4 } else { 0 };
    (frame.len() >= payload_at).then_some((length, payload_at))
}

fn close(payload: &[u8]) -> Halt {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() {
            Halt::Close(CloseFrame::default())
        } else {
            Halt::Violation(Violation::Protocol)
        };
    };
    let code = u16::from(*high) << 8 | u16::from(*low);
    // The registry of RFC 6455 section 11.7, with 1012 and 1013, and what libraries and applications may use.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Halt::Violation(Violation::Protocol);
    }
    match String::from_utf8(reason.to_vec()) {
        Ok(reason) => Halt::Close(CloseFrame { code: Some(code), reason }),
        Err(_) => Halt::Violation(Violation::Utf8),
    }
}

struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was passed on never has tungstenite meet a limit or a Close frame.
fn read(passed: &[u8], masked: bool, limit: usize, announced: u64) {
    let role = if masked { Role::Server } else { Role::Client };
    let config = WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit.max(125)));
    let (mut context, mut stream) = (WebSocketContext::new(role, Some(config)), Stream(passed));
    let mut messages = 0;
    loop {
        match context.read(&mut stream) {
            Ok(tungstenite::Message::Close(_)) => panic!("a Close frame went through"),
            Ok(message) => {
                assert!(message.len() <= limit.max(125));
                messages += 1;
            }
            Err(tungstenite::Error::Capacity(error)) => panic!("{error}"),
            Err(_) => break,
        }
    }
    assert!(messages <= announced);
}

fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(flag | length),
        _ => frame.extend([&[flag | 126][..], &(payload.len() as u16).to_be_bytes()].concat()),
    }
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]));
    frame
}

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let mask = Some([1, 2, 3, 4]);
    let fragments = [frame(0x01, mask, b"a"), frame(0x89, mask, b"ping"), frame(0x80, mask, "é".as_bytes())].concat();
    let streams = [
        (0, frame(0x81, mask, b"hello")),
        (0, frame(0x82, mask, &[7; 300])),
        (0, [fragments, frame(0x88, mask, b"\x03\xe8bye")].concat()),
        (1, [frame(0x81, None, b"hello"), frame(0x88, None, b"")].concat()),
        (1, frame(0x88, None, b"\x0f\xa0\xff")),
        (2, frame(0x81, mask, b"a")),
        (7, [frame(0x02, None, &[0; 600]), frame(0x80, None, &[0; 600])].concat()),
        (0, frame(0x88, mask, b"\x03\xed")),
        (0, frame(0x89, mask, b"").repeat(501)),
        (0, vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]),
        (0, frame(0xc1, mask, b"a")),
    ];
    streams
        .iter()
        .flat_map(|(choices, bytes)| [[1, 1, 1], [3, 200, 7]].map(|cut| Pieces::seed(*choices, cut, bytes)))
        .collect()
}
