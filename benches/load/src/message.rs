//! The messages that are sent, and what must come back for each.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::frame::{self, Kind};

/// Every payload holds its sequence number as this many decimal digits, so that all have one length.
pub const SEQUENCE_DIGITS: usize = 10;
const SEQUENCE_MIN: u64 = 1_000_000_000;
const SEQUENCE_MAX: u64 = 9_999_999_999;

/// The field that a scripted proxy adds. The one that it requires is `user`.
const ADDED_FIELD: (&str, &str) = ("via", "gateway");

const JSON_BYTES: usize = 140;

/// What is sent in one case of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// ASCII text of that many bytes.
    Text(usize),
    /// Binary of that many bytes.
    Binary(usize),
    /// A chat message in JSON, 140 bytes.
    Json,
}

/// A payload with a place for its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    kind: Kind,
    bytes: Vec<u8>,
    sequence_at: usize,
}

/// A sequence number in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence([u8; SEQUENCE_DIGITS]);

impl Sequence {
    /// The number of message `index` on connection `connection` of `connections`: no two connections share numbers, so that a
    /// message that reaches the wrong one is noticed.
    pub fn of(connection: usize, connections: usize, index: u64) -> Self {
        let stride = (SEQUENCE_MAX - SEQUENCE_MIN) / connections.max(1) as u64;
        Self::from_number(SEQUENCE_MIN + stride * connection as u64 + index % stride)
    }

    fn from_number(mut number: u64) -> Self {
        let mut digits = [0; SEQUENCE_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self(digits)
    }
}

impl Content {
    /// What is sent.
    pub fn payload(self) -> Payload {
        let start = Sequence::from_number(SEQUENCE_MIN).0;
        let (kind, bytes) = match self {
            Self::Text(length) => (Kind::Text, filled(&start, length, |index| b'a' + (index % 26) as u8)),
            Self::Binary(length) => (Kind::Binary, filled(&start, length, |index| (index % 251) as u8)),
            Self::Json => (Kind::Text, json_text(true).into_bytes()),
        };
        // The digits stand first, or, in JSON, behind the first colon of the object.
        let sequence_at = if self == Self::Json { find_sequence(&bytes).unwrap_or(0) } else { 0 };
        Payload { kind, bytes, sequence_at }
    }

    /// A message that a scripted proxy must refuse.
    pub fn without_required_field() -> Payload {
        let bytes = json_text(false).into_bytes();
        let sequence_at = find_sequence(&bytes).unwrap_or(0);
        Payload { kind: Kind::Text, bytes, sequence_at }
    }
}

fn filled(start: &[u8], length: usize, fill: impl Fn(usize) -> u8) -> Vec<u8> {
    let rest = (start.len()..length.max(start.len())).map(fill);
    start.iter().copied().chain(rest).collect()
}

fn json_text(with_user: bool) -> String {
    let user = if with_user { r#""user":"alice","# } else { "" };
    let head = format!(r#"{{"seq":{SEQUENCE_MIN},"type":"chat","room":"general",{user}"at":1767225600,"text":""#);
    let words = "the quick brown fox jumps over the lazy dog ".chars().cycle();
    let tail = "\"}";
    let text: String = words.take(JSON_BYTES.saturating_sub(head.len() + tail.len())).collect();
    format!("{head}{text}{tail}")
}

fn find_sequence(bytes: &[u8]) -> Option<usize> {
    let digits = Sequence::from_number(SEQUENCE_MIN).0;
    bytes.windows(SEQUENCE_DIGITS).position(|window| window == digits)
}

impl Payload {
    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The length in bytes.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether `chunk` is what stands at `offset` of this payload when it carries `sequence`.
    pub fn matches(&self, sequence: Sequence, offset: usize, chunk: &[u8]) -> bool {
        let end = offset + chunk.len();
        if end > self.bytes.len() {
            return false;
        }
        let digits_from = self.sequence_at.clamp(offset, end);
        let digits_to = (self.sequence_at + SEQUENCE_DIGITS).clamp(offset, end);
        let digits =
            &sequence.0[digits_from.saturating_sub(self.sequence_at).min(SEQUENCE_DIGITS)..][..digits_to - digits_from];
        chunk[..digits_from - offset] == self.bytes[offset..digits_from]
            && chunk[digits_from - offset..digits_to - offset] == *digits
            && chunk[digits_to - offset..] == self.bytes[digits_to..end]
    }

    /// What a scripted proxy makes of this payload, learned from one answer: all fields as they were and one more.
    pub fn expect_scripted(&self, answer: &[u8]) -> Result<Self> {
        let mut expected: Value = serde_json::from_slice(&self.bytes)?;
        let (name, value) = ADDED_FIELD;
        if let Some(object) = expected.as_object_mut() {
            object.insert(name.to_owned(), value.into());
        }
        let got: Value = serde_json::from_slice(answer).context("the scripted answer is not JSON")?;
        ensure!(got == expected, "the script was to add {name:?} and nothing else, but the answer is {got}");
        let Some(sequence_at) = find_sequence(answer) else { bail!("the scripted answer has lost its number") };
        Ok(Self { kind: self.kind, bytes: answer.to_vec(), sequence_at })
    }
}

/// A masked frame, ready but for its sequence number.
#[derive(Clone, Debug)]
pub struct Outgoing {
    frame: Vec<u8>,
    payload_at: usize,
    sequence_at: usize,
}

impl Outgoing {
    /// Encodes the payload once.
    pub fn new(payload: &Payload) -> Self {
        let mut frame = Vec::new();
        let payload_at = frame::encode(payload.kind, &payload.bytes, &mut frame);
        Self { frame, payload_at, sequence_at: payload.sequence_at }
    }

    /// Appends the frame with that sequence number to `out`.
    pub fn append(&self, sequence: Sequence, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        for (index, digit) in sequence.0.into_iter().enumerate() {
            let at = self.sequence_at + index;
            out[start + self.payload_at + at] = frame::mask_byte(at, digit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(payload: &Payload, sequence: Sequence) -> Vec<u8> {
        let mut bytes = payload.bytes.clone();
        bytes[payload.sequence_at..payload.sequence_at + SEQUENCE_DIGITS].copy_from_slice(&sequence.0);
        bytes
    }

    #[test]
    fn payloads_have_the_length_that_the_table_names() {
        assert_eq!(Content::Text(64).payload().length(), 64);
        assert_eq!(Content::Binary(16_384).payload().length(), 16_384);
        assert_eq!(Content::Json.payload().length(), JSON_BYTES);
        assert_eq!(Content::without_required_field().length(), JSON_BYTES);
    }

    #[test]
    fn a_payload_matches_itself_in_any_pieces_and_nothing_else() {
        for content in [Content::Text(64), Content::Json] {
            let payload = content.payload();
            let sequence = Sequence::of(3, 64, 41);
            let bytes = rendered(&payload, sequence);
            for step in 1..=bytes.len() {
                for (index, chunk) in bytes.chunks(step).enumerate() {
                    assert!(payload.matches(sequence, index * step, chunk));
                }
            }
            for at in 0..bytes.len() {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1;
                assert!(!payload.matches(sequence, 0, &wrong), "byte {at} differs");
            }
            assert!(!payload.matches(Sequence::of(3, 64, 42), 0, &bytes));
            assert!(!payload.matches(sequence, 1, &bytes), "longer than the payload");
        }
    }

    #[test]
    fn sequences_of_two_connections_never_meet() {
        assert_eq!(Sequence::of(0, 64, 0).0, *b"1000000000");
        assert_eq!(Sequence::of(0, 64, 17).0, *b"1000000017");
        assert_ne!(Sequence::of(1, 64, 0), Sequence::of(0, 64, 0));
        assert_eq!(Sequence::of(63, 64, 0).0.len(), SEQUENCE_DIGITS);
    }

    #[test]
    fn an_appended_frame_unmasks_to_the_payload() {
        let payload = Content::Json.payload();
        let sequence = Sequence::of(7, 8, 9);
        let mut out = b"before".to_vec();
        let outgoing = Outgoing::new(&payload);
        outgoing.append(sequence, &mut out);
        let wire = &out[6 + outgoing.payload_at..];
        let plain: Vec<u8> = wire.iter().enumerate().map(|(index, byte)| frame::mask_byte(index, *byte)).collect();
        assert_eq!(plain, rendered(&payload, sequence));
    }

    #[test]
    fn a_script_adds_one_field_and_may_sort_them() {
        let payload = Content::Json.payload();
        let mut value: Value = serde_json::from_slice(&payload.bytes).unwrap();
        value.as_object_mut().unwrap().insert("via".into(), "gateway".into());
        let answer = serde_json::to_vec(&value).unwrap();
        let expected = payload.expect_scripted(&answer).unwrap();
        let sequence = Sequence::of(0, 1, 5);
        assert!(expected.matches(sequence, 0, &rendered(&expected, sequence)));
    }

    #[test]
    fn an_unchanged_answer_is_no_script() {
        let payload = Content::Json.payload();
        assert!(payload.expect_scripted(&payload.bytes).is_err());
        assert!(payload.expect_scripted(b"{").is_err());
    }
}
