use proptest::prelude::*;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;

fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::PROTOCOL_PREFIX, &[version_command, family], &length, rest].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x34, 0, 80];

/// Sends the bytes in parts of `part`; what was read, and what was left.
fn read_from(bytes: &[u8], part: usize) -> (Result<Sender, &'static str>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut client, server) = tokio::join!(
            async { TcpStream::connect(listener.local_addr().unwrap()).await.unwrap() },
            listener.accept()
        );
        client.set_nodelay(true).unwrap();
        let mut server = server.unwrap().0;
        let write = async {
            for part in bytes.chunks(part) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (sender, ()) = tokio::join!(read(&mut server), write);
        let mut left = Vec::new();
        server.read_to_end(&mut left).await.unwrap();
        (sender.map_err(|error| error.label()), left)
    })
}

#[test]
fn both_versions_name_the_client_and_leave_what_follows() {
    let mut with_more = V4.to_vec();
    with_more.extend([4, 0, 3, 1, 2, 3]);
    let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 7, 0, 80]].concat();
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n".to_vec(), "192.0.2.1:4660"),
        (b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(), "[2001:db8::1]:7"),
        (v2(0x21, 0x11, V4), "192.0.2.1:4660"),
        (v2(0x21, 0x11, &with_more), "192.0.2.1:4660"),
        (v2(0x21, 0x21, &v6), "[2001:db8::1]:7"),
    ] {
        for part in [1, 7, 4096] {
            let sent = [&header[..], b"GET /\n\n"].concat();
            let client = Sender::Named(client.parse().unwrap());
            assert_eq!(read_from(&sent, part), (Ok(client), b"GET /\n\n".to_vec()), "{header:?} by {part}");
        }
    }
}

#[test]
fn who_connects_for_itself_keeps_its_address() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ff:: ff:: 1 1\r\n".to_vec(),
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, V4),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[b'/'; 216]),
    ] {
        assert_eq!(read_from(&header, 4096).0, Ok(Sender::Itself), "{header:?}");
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let long = format!("PROXY TCP4 192.0.2.1 127.0.0.1 1 {}\r\n", "1".repeat(200));
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "proxy_header_missing"),
        (b"proxy TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(), "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 1\r\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY TCP4 example.com 127.0.0.1 1 2\r\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY UDP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(), "proxy_header_malformed"),
        (long.into_bytes(), "proxy_header_malformed"),
        (b"PROXY TCP4\r192.0.2.1 127.0.0.1 1 2\r\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 +1 2\r\n".to_vec(), "proxy_header_malformed"),
        (b"PROXY TCP6 2001:d::1 ::1 7 17 \n".to_vec(), "proxy_header_malformed"),
        (v2(0x21, 0x10, V4), "proxy_header_malformed"),
        (v2(0x21, 0x01, &[]), "proxy_header_malformed"),
        (v2(0x11, 0x11, V4), "proxy_header_malformed"),
        (v2(0x22, 0x11, V4), "proxy_header_malformed"),
        (v2(0x21, 0x12, V4), "proxy_header_malformed"),
        (v2(0x21, 0x21, V4), "proxy_header_malformed"),
        (v2(0x21, 0x11, &[0; 5000]), "proxy_header_malformed"),
        (b"PROXY TCP4 192.0".to_vec(), "closed"),
        (v2(0x21, 0x11, V4)[..20].to_vec(), "closed"),
        (b"PR".to_vec(), "closed"),
    ] {
        assert_eq!(read_from(&bytes, 4096).0, Err(reason), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), v1 in "PROXY [ -~]{0,100}\r\n") {
        let _ = parse_v1(&bytes);
        let _ = parse_v1(v1.as_bytes());
        let _ = parse_v2(&[v2::PROTOCOL_PREFIX, &bytes].concat());
    }
}
