//! One message before the measurement, to see that a proxy does what its row claims.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::frame::{self, Decoder, Kind, Piece};
use crate::handshake;
use crate::message::{Content, Outgoing, Payload, Sequence};

/// What answers a message.
#[derive(Debug)]
enum Answer {
    Message(Kind, Vec<u8>),
    Close(Option<u16>),
}

/// Sends one message of that content and returns what is to be expected for every further one. A scripted proxy must add its field,
/// and close a connection with 1008 on which the required field is missing; any other must send the message back as it was.
pub fn expected_answer(address: SocketAddr, content: Content, scripted: bool) -> Result<Payload> {
    let sent = content.payload();
    let Answer::Message(kind, answer) = exchange(address, &sent)? else { bail!("the probe was answered by a close") };
    ensure!(kind == sent.kind(), "the probe was answered by a message of the other kind");
    if !scripted {
        let same = answer.len() == sent.length() && sent.matches(Sequence::of(0, 1, 0), 0, &answer);
        ensure!(same, "the probe came back changed");
        return Ok(sent);
    }
    match exchange(address, &Content::without_required_field())? {
        Answer::Close(Some(1008)) => sent.expect_scripted(&answer),
        other => bail!("a message without its required field was answered by {other:?}"),
    }
}

fn exchange(address: SocketAddr, payload: &Payload) -> Result<Answer> {
    let mut stream = handshake::connect(address)?;
    let mut out = Vec::new();
    Outgoing::new(payload).append(Sequence::of(0, 1, 0), &mut out);
    stream.write_all(&out)?;
    let answer = read_answer(&mut stream).context("no answer to the probe")?;
    out.clear();
    frame::encode_close(&mut out);
    stream.write_all(&out)?;
    Ok(answer)
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut decoder = Decoder::default();
    let mut message = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the connection was closed");
        let mut input = &buffer[..count];
        while let Some(piece) = decoder.next(&mut input)? {
            match piece {
                Piece::Data { kind, chunk, last } => {
                    message.extend_from_slice(chunk);
                    if last {
                        return Ok(Answer::Message(kind, message));
                    }
                }
                Piece::Close(code) => return Ok(Answer::Close(code)),
                Piece::Ping(_) | Piece::Pong => {}
            }
        }
    }
}
