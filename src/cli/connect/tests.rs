use std::{
    io::Cursor,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};

use super::*;
use crate::upstream::tests::fake::{good_101, header, read_head};

type Served = WebSocketStream<tokio::net::TcpStream>;

/// A server for one connection. Gives the head of the request.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    talk: impl FnOnce(Served) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        let chosen = header(&head, "sec-websocket-protocol").map(|names| names.split(',').next().unwrap_or_default());
        let chosen = chosen.map(|name| format!("\r\nSec-WebSocket-Protocol: {name}\r\n\r\n"));
        let answer = good_101(&head).replace("\r\n\r\n", chosen.as_deref().unwrap_or("\r\n\r\n"));
        stream.write_all(answer.as_bytes()).await.unwrap();
        talk(WebSocketStream::from_raw_socket(stream, Role::Server, None).await).await;
        head
    });
    (address, served)
}

async fn echo(mut stream: Served) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            stream.send(message).await.unwrap();
        }
    }
}

async fn close_with(mut stream: Served, code: u16, reason: &'static str) {
    stream.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
    while let Some(Ok(_)) = stream.next().await {}
}

fn arguments(address: SocketAddr) -> ConnectArguments {
    ConnectArguments {
        url: format!("ws://{address}/room?x=1").parse().unwrap(),
        headers: Vec::new(),
        subprotocols: Vec::new(),
    }
}

/// An input that never ends, like a terminal where nobody types.
fn silence() -> Cursor<Vec<u8>> {
    std::thread::sleep(Duration::from_secs(60));
    Cursor::default()
}

/// The result, and what was written to stdout and stderr.
async fn run<R: BufRead + 'static>(
    arguments: ConnectArguments,
    input: impl FnOnce() -> R + Send + 'static,
) -> (Result<Closed, ConnectError>, String, String) {
    let (mut output, mut status) = (Vec::new(), Vec::new());
    let result = connect(arguments, input, &mut output, &mut status, false).await;
    (result, String::from_utf8(output).unwrap(), String::from_utf8(status).unwrap())
}

fn block_on<F: Future>(test: F) -> F::Output {
    // Two threads: the server must go on while the client is stuck, should it ever be.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test)
}

#[test]
fn lines_go_out_and_messages_come_in_until_the_input_ends() {
    block_on(async {
        let (address, served) = serve(echo).await;
        let (result, output, status) = run(arguments(address), || Cursor::new("one\ntwo\r\n\nlast")).await;
        assert_eq!(output, "one\ntwo\n\nlast\n");
        assert_eq!(status, format!("connected to ws://{address}/room?x=1\nclosed 1000\n"));
        assert!(result.unwrap().is_normal());
        assert!(served.await.unwrap().starts_with("GET /room?x=1 HTTP/1.1\r\n"));
    });
}

#[test]
fn headers_and_subprotocols_are_sent() {
    block_on(async {
        let (address, served) = serve(echo).await;
        let mut arguments = arguments(address);
        arguments.headers =
            [("x-a: 1"), ("x-b:2"), ("host: other.example")].map(|line| super::super::header(line).unwrap()).into();
        arguments.subprotocols = vec!["b".to_owned(), "a".to_owned()];
        let (_, _, status) = run(arguments, Cursor::<Vec<u8>>::default).await;
        let head = served.await.unwrap();
        assert_eq!((header(&head, "x-a"), header(&head, "x-b")), (Some("1"), Some("2")));
        assert_eq!(header(&head, "host"), Some("other.example"));
        assert_eq!(header(&head, "sec-websocket-protocol"), Some("b, a"));
        assert!(status.contains("/room?x=1 (b)\n"), "{status}");
    });
}

#[test]
fn a_long_input_does_not_get_stuck_in_its_own_echo() {
    block_on(async {
        let (address, _served) = serve(echo).await;
        let line = "x".repeat(1 << 20);
        let input = format!("{line}\n").repeat(32);
        let expected = input.len();
        let (result, output, _) = run(arguments(address), move || Cursor::new(input)).await;
        assert!(result.unwrap().is_normal());
        assert_eq!(output.len(), expected);
    });
}

#[test]
fn binary_messages_are_shown_in_hex() {
    block_on(async {
        let talk = |mut stream: Served| async move {
            for bytes in [&[][..], &[0, 255], &[7; 17]] {
                stream.send(Message::binary(bytes.to_vec())).await.unwrap();
            }
            close_with(stream, 1000, "").await;
        };
        let (address, _served) = serve(talk).await;
        let (_, output, _) = run(arguments(address), silence).await;
        let expected =
            "<binary 0 bytes: >\n<binary 2 bytes: 00ff>\n<binary 17 bytes: 07070707070707070707070707070707…>\n";
        assert_eq!(output, expected);
    });
}

#[test]
fn the_servers_close_is_told_and_decides() {
    block_on(async {
        for (code, reason, normal) in
            [(1000, "bye", true), (1001, "", true), (1011, "oops", false), (4401, "late", false)]
        {
            let (address, _served) = serve(move |stream| close_with(stream, code, reason)).await;
            let (result, _, status) = run(arguments(address), silence).await;
            assert_eq!(result.unwrap().is_normal(), normal, "{code}");
            assert!(status.trim_end().ends_with(format!("closed {code} {reason}").trim_end()), "{status}");
        }
    });
}

#[test]
fn a_close_without_a_code_is_normal() {
    block_on(async {
        let talk = |mut stream: Served| async move {
            stream.close(None).await.unwrap();
            while let Some(Ok(_)) = stream.next().await {}
        };
        let (address, _served) = serve(talk).await;
        let (result, _, status) = run(arguments(address), silence).await;
        assert!(result.unwrap().is_normal());
        assert!(status.ends_with("closed 1005\n"), "{status}");
    });
}

#[test]
fn a_connection_that_breaks_off_is_an_error() {
    block_on(async {
        let (address, _served) = serve(|stream| async move { drop(stream) }).await;
        let (result, _, status) = run(arguments(address), silence).await;
        assert!(matches!(result, Err(ConnectError::Broken(_))), "{result:?}");
        assert!(!status.contains("closed"), "{status}");
    });
}

#[test]
fn a_server_that_does_not_answer_the_close_is_left_in_time() {
    block_on(async {
        let talk = |mut stream: Served| async move {
            stream.send(Message::text("early")).await.unwrap();
            std::future::pending().await
        };
        let (address, _served) = serve(talk).await;
        let start = Instant::now();
        let (result, output, _) = run(arguments(address), Cursor::<Vec<u8>>::default).await;
        assert!(matches!(result, Err(ConnectError::Unanswered)), "{result:?}");
        assert!((CLOSE_TIMEOUT..2 * CLOSE_TIMEOUT).contains(&start.elapsed()));
        assert_eq!(output, "early\n");
    });
}

#[test]
fn a_refused_handshake_is_an_error_with_the_servers_answer() {
    block_on(async {
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope";
        let (address, _served) = crate::upstream::tests::fake::serve(|_| answer.into()).await;
        let (result, ..) = run(arguments(address), silence).await;
        let Err(ConnectError::Dial(DialError::Answered(answer))) = result else { panic!("{result:?}") };
        assert_eq!((answer.status.as_u16(), answer.body.as_deref()), (403, Some(&b"nope"[..])));
    });
}

#[test]
fn an_input_that_is_not_text_ends_it() {
    block_on(async {
        let (address, _served) = serve(echo).await;
        let (result, ..) = run(arguments(address), || Cursor::new(b"ok\n\xff\xfe\n")).await;
        assert!(matches!(result, Err(ConnectError::Input(_))), "{result:?}");
    });
}

#[test]
fn a_line_that_never_ends_is_refused() {
    let mut endless = io::BufReader::new(io::repeat(b'x'));
    assert_eq!(read_line(&mut endless).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn an_output_that_is_closed_ends_it() {
    struct Closed(Arc<Mutex<usize>>);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    block_on(async {
        let (address, _served) = serve(echo).await;
        let writes = Arc::<Mutex<usize>>::default();
        let input = || Cursor::new("one\ntwo\n");
        let result = connect(arguments(address), input, &mut Closed(Arc::clone(&writes)), &mut io::sink(), false).await;
        assert!(matches!(result, Err(ConnectError::Output(_))), "{result:?}");
        assert_eq!(*writes.lock().unwrap(), 1);
    });
}

#[test]
fn a_terminal_is_not_steered_by_messages() {
    let mut shown = Vec::new();
    show(&Message::text("a\u{1b}[2J\tb\u{9b}\r\nc"), &mut shown, true).unwrap();
    assert_eq!(String::from_utf8(shown).unwrap(), "a\\u{1b}[2J\tb\\u{9b}\\r\nc\n");
    let mut piped = Vec::new();
    show(&Message::text("a\u{1b}"), &mut piped, false).unwrap();
    assert_eq!(piped, b"a\x1b\n");
}
