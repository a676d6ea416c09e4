//! Frames of STOMP, as far as an access list reads and writes them.

use crate::outcome::End;

/// Most headers of a frame: a bound for what is searched for two of the same name.
const MAX_HEADERS: usize = 128;

/// What stands first in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// The end of a line between frames: also a sign of life. Its bytes.
    Line(usize),
    /// A frame and its bytes, the NUL at its end among them.
    Frame(Frame<'a>, usize),
    /// The beginning of a frame.
    Partial,
}

/// A frame's fields that matter here, as they are written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) command: &'a str,
    pub(super) destination: Option<&'a str>,
    pub(super) receipt: Option<&'a str>,
    content_length: Option<&'a str>,
}

impl<'a> Frame<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Next<'a>, End> {
        match bytes {
            [b'\n', ..] => return Ok(Next::Line(1)),
            [b'\r', b'\n', ..] => return Ok(Next::Line(2)),
            _ => {}
        }
        let mut frame = Self::default();
        let mut at = 0;
        let mut headers = 0;
        // The command, the headers, and the empty line behind them.
        for number in 0.. {
            let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
                return match bytes[at..].contains(&0) {
                    true => Err(End::malformed("a frame ends within its headers")),
                    false => Ok(Next::Partial),
                };
            };
            let line = &bytes[at..at + length];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            at += length + 1;
            let line = std::str::from_utf8(line).map_err(|_| End::not_utf8("a header is not UTF-8"))?;
            if line.contains(['\0', '\r']) {
                return Err(End::malformed("a frame ends within its headers"));
            }
            match (number, line) {
                (0, command) => frame.command = command,
                (_, "") => break,
                (_, line) => {
                    headers += 1;
                    if headers > MAX_HEADERS {
                        return Err(End::too_many("a frame has too many headers"));
                    }
                    frame.header(line)?;
                }
            }
        }
        Ok(match frame.body_length(&bytes[at..])? {
            Some(length) => Next::Frame(frame, at + length + 1),
            None => Next::Partial,
        })
    }

    fn header(&mut self, line: &'a str) -> Result<(), End> {
        let Some((name, value)) = line.split_once(':') else {
            return Err(End::malformed("a header without a colon"));
        };
        let known = ["destination", "receipt", "content-length"];
        let Some(known) = known.into_iter().find(|known| known.eq_ignore_ascii_case(name.trim())) else {
            return Ok(());
        };
        // Some brokers would take it for the header, and some would not.
        if known != name {
            return Err(End::malformed("a header's name is almost one that matters"));
        }
        let field = match known {
            "destination" => &mut self.destination,
            "receipt" => &mut self.receipt,
            _ => &mut self.content_length,
        };
        // The first of two counts, but not everywhere.
        match field.replace(value) {
            Some(first) if first != value => Err(End::malformed("a header that matters came twice")),
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes of the body before its NUL. None where they have not all come.
    fn body_length(&self, rest: &[u8]) -> Result<Option<usize>, End> {
        let Some(length) = self.content_length else {
            let end = rest.iter().position(|byte| *byte == 0);
            return match end {
                Some(1..) if self.command != "SEND" => Err(End::malformed("only SEND has a body")),
                end => Ok(end),
            };
        };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = match length.parse::<u32>() {
            Ok(length) if digits => length as usize,
            Ok(_) | Err(_) => return Err(End::malformed("a content-length is no number")),
        };
        if length > 0 && self.command != "SEND" {
            return Err(End::malformed("only SEND has a body"));
        }
        match rest.get(length) {
            None => Ok(None),
            Some(0) => Ok(Some(length)),
            Some(_) => Err(End::malformed("a body is longer than its content-length")),
        }
    }
}

/// What a value stands for in 1.1 and 1.2.
pub(super) fn unescaped(value: &str) -> Result<String, End> {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('c') => ':',
                Some('\\') => '\\',
                Some(_) | None => return Err(End::malformed("an unknown escape")),
            },
            c => c,
        });
    }
    Ok(text)
}

/// Adds an ERROR frame. `receipt` is given back as it was written.
pub(super) fn error(out: &mut Vec<u8>, message: &str, receipt: Option<&str>) {
    out.extend_from_slice(b"ERROR\nmessage:");
    out.extend_from_slice(message.as_bytes());
    if let Some(receipt) = receipt {
        out.extend_from_slice(b"\nreceipt-id:");
        out.extend_from_slice(receipt.as_bytes());
    }
    out.extend_from_slice(b"\n\n\0");
}
