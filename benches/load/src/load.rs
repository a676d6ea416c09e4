//! The load generator: one thread, one epoll, many connections with some messages in flight on each. Every answer is compared with
//! what was sent, byte for byte; the first difference ends the run.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frame::{self, Decoder, Piece};
use crate::handshake;
use crate::interrupt;
use crate::message::{Outgoing, Payload, Sequence};

const READ_BUFFER_BYTES: usize = 256 * 1024;
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// How long nothing at all may come back before the run fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What to send and what to expect for it.
#[derive(Debug)]
pub struct Traffic {
    /// The message, encoded.
    pub outgoing: Outgoing,
    /// The answer.
    pub expected: Payload,
    /// Messages that each connection sends ahead of the answers.
    pub in_flight: usize,
}

/// What happened between two moments.
#[derive(Clone, Debug)]
pub struct Window {
    /// Messages that were sent and came back.
    pub round_trips: u64,
    /// How long the window really was.
    pub elapsed: Duration,
    /// From the writing of a message to the reading of its end, in nanoseconds.
    pub latency_ns: Histogram<u64>,
}

impl Window {
    /// The latency below which `percent` of the messages stayed, in microseconds.
    pub fn latency_us(&self, percent: f64) -> f64 {
        self.latency_ns.value_at_percentile(percent) as f64 / 1000.0
    }

    /// Round trips finished in a second.
    pub fn per_second(&self) -> f64 {
        self.round_trips as f64 / self.elapsed.as_secs_f64()
    }
}

/// Open connections and what is on its way on them.
pub struct Generator {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    shared: Shared,
}

/// What all connections use.
struct Shared {
    traffic: Traffic,
    connections: usize,
    /// Whether an answer is followed by a new message.
    refill: bool,
    round_trips: u64,
    latency_ns: Histogram<u64>,
}

struct Connection {
    index: usize,
    stream: TcpStream,
    decoder: Decoder,
    /// Bytes that the socket has not taken yet, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// How much of the current answer has come.
    offset: usize,
    sent: u64,
    answered: u64,
    sent_at: VecDeque<Instant>,
    closed: bool,
}

impl Generator {
    /// Opens the connections, one after the other. Nothing is sent yet.
    pub fn open(address: SocketAddr, connections: usize, traffic: Traffic) -> Result<Self> {
        let poll = Poll::new()?;
        let mut opened = Vec::with_capacity(connections);
        for index in 0..connections {
            interrupt::check()?;
            let stream = handshake::connect(address).with_context(|| format!("connection {index} of {connections}"))?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            opened.push(Connection::new(index, stream));
        }
        let shared = Shared { traffic, connections, refill: true, round_trips: 0, latency_ns: new_histogram()? };
        let events = Events::with_capacity(1024);
        Ok(Self { poll, events, buffer: vec![0; READ_BUFFER_BYTES], connections: opened, shared })
    }

    /// Sends the first messages on every connection.
    pub fn start(&mut self) -> Result<()> {
        let now = Instant::now();
        for connection in &mut self.connections {
            connection.send(self.shared.traffic.in_flight, now, &self.shared)?;
        }
        Ok(())
    }

    /// Goes on for that long and reports what happened meanwhile.
    pub fn run_for(&mut self, duration: Duration) -> Result<Window> {
        self.shared.round_trips = 0;
        self.shared.latency_ns.reset();
        let start = Instant::now();
        let (mut seen, mut seen_at) = (0, start);
        loop {
            let now = Instant::now();
            let elapsed = now - start;
            if elapsed >= duration {
                let latency_ns = self.shared.latency_ns.clone();
                return Ok(Window { round_trips: self.shared.round_trips, elapsed, latency_ns });
            }
            if self.shared.round_trips != seen {
                (seen, seen_at) = (self.shared.round_trips, now);
            }
            ensure!(now - seen_at < STALL_TIMEOUT, "nothing has come back for {STALL_TIMEOUT:?}");
            self.turn(POLL_TIMEOUT.min(duration - elapsed))?;
        }
    }

    /// Sends nothing more and waits for the answers to what is on its way.
    pub fn drain(&mut self) -> Result<()> {
        self.shared.refill = false;
        let start = Instant::now();
        while self.connections.iter().any(|connection| connection.answered < connection.sent) {
            ensure!(start.elapsed() < STALL_TIMEOUT, "the last answers have not come within {STALL_TIMEOUT:?}");
            self.turn(POLL_TIMEOUT)?;
        }
        Ok(())
    }

    /// Drains, closes every connection with code 1000 and waits a moment for the other side to do the same.
    pub fn close(mut self) -> Result<()> {
        self.drain()?;
        for connection in &mut self.connections {
            frame::encode_close(&mut connection.out);
            connection.closed = true;
            connection.flush()?;
        }
        let start = Instant::now();
        let mut open = self.connections.len();
        while open > 0 && start.elapsed() < CLOSE_TIMEOUT {
            interrupt::check()?;
            self.poll.poll(&mut self.events, Some(POLL_TIMEOUT))?;
            for event in &self.events {
                let connection = &mut self.connections[event.token().0];
                // Whatever comes now is the other side's close frame, and then the end.
                while matches!(connection.stream.read(&mut self.buffer), Ok(count) if count > 0) {}
                if event.is_read_closed() && connection.closed {
                    connection.closed = false;
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> Result<()> {
        interrupt::check()?;
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            let turned = connection.turn(event.is_readable(), &mut self.buffer, &mut self.shared);
            turned.with_context(|| format!("connection {}, message {}", connection.index, connection.answered))?;
        }
        Ok(())
    }
}

impl Connection {
    fn new(index: usize, stream: TcpStream) -> Self {
        Self {
            index,
            stream,
            decoder: Decoder::default(),
            out: Vec::new(),
            written: 0,
            offset: 0,
            sent: 0,
            answered: 0,
            sent_at: VecDeque::new(),
            closed: false,
        }
    }

    fn turn(&mut self, readable: bool, buffer: &mut [u8], shared: &mut Shared) -> Result<()> {
        if self.written < self.out.len() {
            self.flush()?;
        }
        if !readable {
            return Ok(());
        }
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => bail!("the connection was closed"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the connection broke"),
            };
            self.take(&buffer[..count], shared)?;
            // A short read has emptied the socket; epoll reports the next arrival.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut input: &[u8], shared: &mut Shared) -> Result<()> {
        let now = Instant::now();
        let mut finished = 0;
        while let Some(piece) = self.decoder.next(&mut input)? {
            match piece {
                Piece::Data { kind, chunk, last } => {
                    ensure!(kind == shared.traffic.expected.kind(), "the answer is of the other kind: {kind:?}");
                    self.verify(chunk, last, shared)?;
                    if last {
                        self.answered += 1;
                        finished += 1;
                        let sent_at = self.sent_at.pop_front().context("an answer to nothing")?;
                        let nanos = u64::try_from((now - sent_at).as_nanos()).unwrap_or(u64::MAX);
                        shared.latency_ns.saturating_record(nanos);
                    }
                }
                Piece::Ping(payload) => {
                    frame::encode_pong(&payload, &mut self.out);
                    self.flush()?;
                }
                Piece::Pong => {}
                Piece::Close(code) => bail!("the other side closes with code {code:?}"),
            }
        }
        shared.round_trips += finished as u64;
        if shared.refill && finished > 0 {
            self.send(finished, now, shared)?;
        }
        Ok(())
    }

    fn verify(&mut self, chunk: &[u8], last: bool, shared: &Shared) -> Result<()> {
        let expected = &shared.traffic.expected;
        let sequence = Sequence::of(self.index, shared.connections, self.answered);
        ensure!(
            expected.matches(sequence, self.offset, chunk),
            "the answer differs from what was expected, between byte {} and {}",
            self.offset,
            self.offset + chunk.len()
        );
        self.offset += chunk.len();
        if last {
            ensure!(self.offset == expected.length(), "{} bytes came back of {}", self.offset, expected.length());
            self.offset = 0;
        }
        Ok(())
    }

    fn send(&mut self, count: usize, now: Instant, shared: &Shared) -> Result<()> {
        for _ in 0..count {
            let sequence = Sequence::of(self.index, shared.connections, self.sent);
            shared.traffic.outgoing.append(sequence, &mut self.out);
            self.sent_at.push_back(now);
            self.sent += 1;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

fn new_histogram() -> Result<Histogram<u64>> {
    // One nanosecond to a minute, three digits.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| anyhow::anyhow!("histogram: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_recorded_latencies() {
        let mut latency_ns = new_histogram().unwrap();
        for micros in 1..=1000 {
            latency_ns.record(micros * 1000).unwrap();
        }
        let window = Window { round_trips: 1000, elapsed: Duration::from_millis(500), latency_ns };
        assert!((window.latency_us(50.0) - 500.0).abs() <= 1.0, "{}", window.latency_us(50.0));
        assert!((window.latency_us(99.0) - 990.0).abs() <= 1.0, "{}", window.latency_us(99.0));
        assert!((window.per_second() - 2000.0).abs() < 0.001);
    }
}
