//! The load generator against upstreams that behave, and some that do not.

#![expect(clippy::unwrap_used, reason = "also the functions that start a test's other side may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use wsgate_load::child::free_address;
use wsgate_load::load::{Generator, Traffic};
use wsgate_load::message::{Content, Outgoing};
use wsgate_load::{echo, probe};

const IN_FLIGHT: usize = 4;

fn start_echo() -> SocketAddr {
    let address = free_address().unwrap();
    thread::spawn(move || echo::serve(address));
    while TcpStream::connect(address).is_err() {
        thread::yield_now();
    }
    address
}

/// Upgrades every connection and answers the first read with `answer` of what was sent.
fn start_liar(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            lie(stream.unwrap(), answer);
        }
    });
    address
}

fn lie(mut stream: TcpStream, answer: fn(&[u8]) -> Vec<u8>) {
    let mut buffer = [0; 4096];
    let _ = stream.read(&mut buffer).unwrap();
    let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let count = stream.read(&mut buffer).unwrap();
    stream.write_all(&answer(&buffer[..count])).unwrap();
    // Kept open until the other side has seen enough.
    let _ = stream.read(&mut buffer);
}

/// A client's frame of up to 125 bytes as the server's.
fn unmasked(frame: &[u8]) -> Vec<u8> {
    let payload = frame[6..].iter().enumerate().map(|(index, byte)| byte ^ frame[2 + index % 4]);
    [frame[0], frame[1] & 0x7f].into_iter().chain(payload).collect()
}

fn traffic(content: Content, in_flight: usize) -> Traffic {
    let payload = content.payload();
    Traffic { outgoing: Outgoing::new(&payload), expected: payload, in_flight }
}

fn failure(address: SocketAddr) -> String {
    let mut load = Generator::open(address, 1, traffic(Content::Text(64), 1)).unwrap();
    load.start().unwrap();
    format!("{:#}", load.drain().unwrap_err())
}

#[test]
fn messages_of_every_kind_go_round() {
    let address = start_echo();
    for content in [Content::Text(64), Content::Binary(16 * 1024), Content::Json] {
        let mut load = Generator::open(address, 3, traffic(content, IN_FLIGHT)).unwrap();
        load.start().unwrap();
        let window = load.run_for(Duration::from_millis(50)).unwrap();
        load.close().unwrap();
        assert!(window.round_trips > 0);
        assert_eq!(window.round_trips, window.latency_ns.len());
    }
}

#[test]
fn an_honest_answer_is_taken() {
    let address = start_liar(unmasked);
    let mut load = Generator::open(address, 1, traffic(Content::Text(64), 1)).unwrap();
    load.start().unwrap();
    assert!(load.drain().is_ok());
}

#[test]
fn a_changed_byte_ends_the_run() {
    let address = start_liar(|frame| {
        let mut answer = unmasked(frame);
        answer[40] ^= 1;
        answer
    });
    assert!(failure(address).contains("the answer differs"));
}

#[test]
fn a_lost_message_ends_the_run() {
    let address = start_liar(|frame| {
        let mut answer = unmasked(frame);
        // The last digit of the number: as if the first message had gone missing.
        answer[2 + 9] += 1;
        answer
    });
    assert!(failure(address).contains("the answer differs"));
}

#[test]
fn a_message_that_is_cut_short_ends_the_run() {
    let address = start_liar(|frame| {
        let mut answer = unmasked(frame);
        answer[1] -= 1;
        answer.pop();
        answer
    });
    assert!(failure(address).contains("63 bytes came back of 64"));
}

#[test]
fn a_close_ends_the_run() {
    let address = start_liar(|_| vec![0x88, 2, 0x03, 0xf3]);
    assert!(failure(address).contains("closes with code Some(1011)"));
}

#[test]
fn a_proxy_that_claims_a_script_has_to_run_it() {
    let address = start_echo();
    assert!(probe::expected_answer(address, Content::Json, false).is_ok());
    assert!(probe::expected_answer(address, Content::Json, true).is_err());
}
