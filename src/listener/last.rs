//! Closing a listening socket so that nobody who is connected is reset.
//!
//! The kernel completes TCP handshakes by itself and resets what was not accepted when the socket is closed. So first
//! the socket stops to take new ones: a filter drops packets that ask for a connection, and whoever is dropped asks again
//! a second later and is refused, as everybody is who comes after the end. Those under way arrive meanwhile.

use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::TcpListener;

/// Handshakes that have begun are completed within this, over the distances that clients have.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(300);

/// Classic BPF (bpf(4) of BSD): load a byte, and with a constant, jump if equal, return a constant.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Where a TCP header has its flags (RFC 9293 section 3.1). The socket sees packets from that header on.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Drops packets that ask for a connection. False where the system does not let this be done.
pub(super) fn refuse_new(listener: &TcpListener) -> bool {
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&program).is_ok()
}
