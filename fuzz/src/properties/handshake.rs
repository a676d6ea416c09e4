//! A request that the gateway answers with 101 says one thing only, whoever reads it; and nobody speaks for others
//! without being trusted to.
//!
//! Bytes go to hyper with the gateway's settings, in pieces, and then through the same checks.

use std::{
    cell::{OnceCell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
};

use super::{
    forwarded::Source,
    headers::{end_to_end, switching_protocols},
    origin,
    parser::parser,
    refusal::Refusal,
    request::Opening,
};
use crate::{
    auth::credentials::{Credentials, find, without_tokens},
    config::{TokenSource, TrustedProxies, pattern::OriginRule},
    door::Visitor,
    http_head::Authority,
    pieces::Pieces,
};

/// Longer answers are not collected.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A client that is nobody's proxy, and one that is.
const STRANGER: &str = "198.51.100.7:50000";
const PROXY: &str = "127.0.0.1:50000";
/// Claimed by whoever has no right to.
const CLAIMED: &str = "203.0.113.66";

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let Some(input) = Pieces::of(input) else { return false };
    let (whole, cut) = (serve(&input.whole()), serve(&input.cut()));
    let first = |served: &Served| served.requests.first().map(|(_, checked)| checked.clone());
    assert_eq!(first(&whole), first(&cut), "in pieces");
    for (parts, checked) in whole.requests.iter().chain(&cut.requests) {
        if let Ok(opening) = checked {
            holds(parts, opening);
        }
        vouched_for(parts, checked.as_ref().ok());
    }
    let Some((parts, Ok(opening))) = whole.requests.first() else { return false };
    as_written(input.bytes, parts, opening);
    let answer = String::from_utf8_lossy(&whole.answer).to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 101 ") && answer.matches("\r\nsec-websocket-accept:").count() == 1,
        "{answer}"
    );
    true
}

struct Served {
    requests: Vec<(Parts, Result<Opening, Refusal>)>,
    answer: Vec<u8>,
}

fn serve(pieces: &[&[u8]]) -> Served {
    let requests = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&requests);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let parts = request.into_parts().0;
        let checked = Opening::check(&parts);
        let response = match &checked {
            Ok(opening) => switching_protocols(opening, None, &HeaderMap::new(), &crate::filter::Edits::default()),
            Err(Refusal(status)) => {
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = http::StatusCode::from_u16(*status).expect("a status");
                response
            }
        };
        seen.borrow_mut().push((parts, checked));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut answer = Vec::new();
    let socket =
        Socket { pieces: pieces.iter().map(|piece| piece.to_vec()).collect(), patience: 4, answer: &mut answer };
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
        let connection = parser().serve_connection(TokioIo::new(socket), service).without_shutdown();
        // What hyper refuses by itself it reports here, and answers.
        drop(runtime.block_on(connection));
    });
    Served { requests: requests.take(), answer }
}

/// Reads the pieces one by one, then for a while nothing, so that there is time to answer, then the end.
struct Socket<'a> {
    pieces: VecDeque<Vec<u8>>,
    patience: u8,
    answer: &'a mut Vec<u8>,
}

impl AsyncRead for Socket<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        } else if self.patience > 0 {
            self.patience -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = MAX_ANSWER_BYTES.saturating_sub(self.answer.len()).min(bytes.len());
        self.answer.extend(&bytes[..room]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What the bytes themselves say of a request that is taken: two servers cannot read it differently.
fn as_written(bytes: &[u8], parts: &Parts, opening: &Opening) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).skip_while(|line| line.is_empty());
    let start = lines.next().expect("a request line");
    let target = start.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let target = target.unwrap_or_else(|| panic!("{start:?} is taken"));
    assert!(
        target.contains(opening.requested.path.as_str()) || opening.requested.path == "/",
        "{target:?} {opening:?}"
    );
    let head: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let values = |wanted: &str| -> Vec<&str> {
        let pairs = head.iter().filter_map(|line| line.split_once(':'));
        pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).collect()
    };
    assert!(!head.iter().any(|line| line.starts_with([' ', '\t'])), "folded: {head:?}");
    assert!(
        !head.iter().any(|line| line.split(':').next().is_some_and(|name| name.ends_with([' ', '\t']))),
        "{head:?}"
    );
    assert_eq!(values("Host").len(), 1, "{head:?}");
    assert!(values("Transfer-Encoding").is_empty(), "{head:?}");
    assert!(values("Content-Length").iter().all(|length| *length == "0"), "{head:?}");
    assert!(values("Upgrade").iter().any(|value| value.to_ascii_lowercase().contains("websocket")), "{head:?}");
    assert_eq!(values("Sec-WebSocket-Version"), ["13"], "{head:?}");
    assert_eq!(values("Sec-WebSocket-Key").len(), 1, "{head:?}");
    assert!(head.len() <= 100 && parts.headers.len() <= 100);

    let authority = values("Host")[0].to_ascii_lowercase();
    assert_eq!(opening.requested.authority.as_bytes(), values("Host")[0].as_bytes());
    if origin::check(&OriginRule::DEFAULT, &parts.headers, (&opening.requested.host, opening.requested.port)).is_ok() {
        let origins = values("Origin");
        assert!(origins.len() <= 1, "{origins:?}");
        if let Some(page) = origins.first() {
            let page = page.to_ascii_lowercase();
            let (host, default) = match (page.strip_prefix("https://"), page.strip_prefix("http://")) {
                (Some(host), _) => (host, ":443"),
                (_, Some(host)) => (host, ":80"),
                (None, None) => panic!("{page:?} is taken for the same as {authority:?}"),
            };
            assert_eq!(plain(host, default), plain(&authority, default), "Origin and Host");
        }
    }
}

/// An authority without what makes no difference.
fn plain(authority: &str, default_port: &str) -> String {
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.trim_start_matches('0'))),
        _ => (authority, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let address = host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().map(|address| address.to_string());
    let host = address.unwrap_or_else(|_| host.to_owned());
    match port {
        Some(port) if format!(":{port}") != default_port => format!("{host}:{port}"),
        _ => host,
    }
}

/// What the gateway builds on.
fn holds(parts: &Parts, opening: &Opening) {
    assert!(
        opening.requested.path.starts_with('/')
            && opening.requested.path.bytes().all(|byte| byte > b' ' && byte != 0x7f)
    );
    assert!(opening.requested.query.iter().all(|query| query.bytes().all(|byte| byte > b' ' && byte != 0x7f)));
    assert_eq!(opening.accept.len(), 28);
    assert!(opening.subprotocols.len() <= 64 && opening.subprotocols.iter().all(|name| !name.contains([',', ' '])));
    let again = Authority::parse(&opening.requested.host);
    assert_eq!(
        again,
        Some(Authority { host: opening.requested.host.clone(), port: None }),
        "one spelling of {:?}",
        opening.requested.host
    );

    for name in end_to_end(&parts.headers).keys() {
        let of_the_connection = ["connection", "upgrade", "te", "transfer-encoding", "keep-alive", "trailer"];
        assert!(!of_the_connection.contains(&name.as_str()) && !name.as_str().starts_with("sec-websocket-"), "{name}");
        for line in parts.headers.get_all(header::CONNECTION) {
            let Ok(line) = line.to_str() else { continue };
            let named = line.split(',').any(|named| named.trim().eq_ignore_ascii_case(name.as_str()));
            let all_text = parts.headers.get_all(header::CONNECTION).iter().all(|line| line.to_str().is_ok());
            assert!(!named || !all_text, "{name} is named in Connection");
        }
    }
    tokens_are_taken_out(parts, opening);
}

fn tokens_are_taken_out(parts: &Parts, opening: &Opening) {
    let places = [
        TokenSource::Subprotocol,
        TokenSource::Cookie("token".to_owned()),
        TokenSource::Query("access_token".to_owned()),
    ];
    let (mut headers, mut query, mut names) =
        (parts.headers.clone(), opening.requested.query.clone(), opening.subprotocols.clone());
    without_tokens(&places, &mut headers, &mut query, &mut names);
    for place in &places {
        let found = find(std::slice::from_ref(place), &headers, query.as_deref(), &names);
        assert_eq!(found, Credentials::Missing, "{place:?} in {:?}", parts.headers);
    }
}

fn visitor(address: &str) -> Visitor {
    let trusted = ["127.0.0.0/8", "10.0.0.0/8"].map(|network| network.parse().expect("a network"));
    Visitor {
        address: address.parse().expect("an address"),
        secure: false,
        certificate: None,
        trusted_proxies: Arc::new(TrustedProxies::new(trusted.to_vec())),
    }
}

/// Nobody is believed who is not trusted, and a trusted proxy's word is not mixed up with what a client claimed.
fn vouched_for(parts: &Parts, opening: Option<&Opening>) {
    let (stranger, proxy) = (visitor(STRANGER), visitor(PROXY));
    let source = Source::of(&parts.headers, &stranger);
    assert!(source.client == stranger.address && !source.secure, "{source:?}");

    let behind = Source::of(&parts.headers, &proxy);
    let silent = !parts.headers.contains_key("x-forwarded-for") && !parts.headers.contains_key(header::FORWARDED);
    assert!(!silent || behind.client == proxy.address, "{behind:?}");
    let mut claiming = parts.headers.clone();
    if let Some(first) = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()) {
        // A client puts its claim before what the proxies add, but the claim counts once all of those are trusted.
        let rest: Vec<HeaderValue> = claiming.get_all("x-forwarded-for").iter().skip(1).cloned().collect();
        let claim = HeaderValue::try_from(format!("{CLAIMED}, {first}")).expect("it was a value");
        claiming.insert("x-forwarded-for", claim);
        for value in rest {
            claiming.append("x-forwarded-for", value);
        }
        let claimed = Source::of(&claiming, &proxy).client;
        let trusted = proxy.trusted_proxies.contains(behind.client.ip());
        assert!(claimed == behind.client || trusted, "{claimed} instead of {}", behind.client);
    }
    let Some(opening) = opening else { return };
    for (source, hop) in [(source, &stranger), (behind, &proxy)] {
        told(&source, hop.address, parts, opening);
    }
}

/// What the upstream hears.
fn told(source: &Source, hop: SocketAddr, parts: &Parts, opening: &Opening) {
    let mut headers = end_to_end(&parts.headers);
    source.set(&mut headers, &opening.requested);
    let one = |name: &str| {
        let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name} in {headers:?}");
        values[0].to_str().map(str::to_owned).expect("text")
    };
    let chain = one("x-forwarded-for");
    assert_eq!(chain.rsplit(", ").next(), Some(hop.ip().to_string().as_str()), "{chain:?}");
    assert!(["http", "https"].contains(&one("x-forwarded-proto").as_str()));
    assert!(Authority::parse(&one("x-forwarded-host")).is_some());
    assert!(one("x-request-id").bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(
        !headers
            .keys()
            .any(|name| name.as_str().contains('_') && name.as_str().replace('_', "-").starts_with("x-forwarded-"))
    );
    if hop.to_string() == STRANGER {
        assert!(chain == hop.ip().to_string() && !headers.contains_key(header::FORWARDED), "{headers:?}");
        assert!(!headers.contains_key("x-real-ip") && !headers.contains_key("traceparent"), "{headers:?}");
    }
}

const GOOD: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: Chat.Example.com:8080\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let more = [
        "",
        "Sec-WebSocket-Protocol: chat, bearer, a.b.c\r\nOrigin: http://chat.example.com:8080\r\n",
        "Origin: null\r\nCookie: a=1; token=x; b=2\r\nAuthorization: Bearer a.b.c\r\n",
        "X-Forwarded-For: 192.0.2.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: app.example.com\r\n",
        "Forwarded: for=\"[2001:db8::1]:80\";proto=https;host=a.b, for=10.0.0.2\r\nX_Forwarded_For: 1.2.3.4\r\n",
        "Connection: X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\nContent-Length: 0\r\nX-Request-Id: abc\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "Host: other\r\n",
        "Upgrade: h2c\r\n",
    ];
    let mut heads: Vec<String> = more.iter().map(|more| format!("{GOOD}{more}\r\n")).collect();
    heads.push(format!("{GOOD}\r\n").replace("\r\n", "\n"));
    heads.push(format!("{GOOD}\r\n").replace("GET /chat", "GET http://chat.example.com:8080/chat"));
    heads.push(format!("{GOOD}\r\n").replace("GET /chat?room=1", "GET /chat?access_token=x&b=1&access_token"));
    heads.push(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".to_owned(),
    );
    heads.push("GET / HTTP/1.0\r\n\r\n".to_owned());
    heads.iter().flat_map(|head| [[1, 1, 1], [40, 0, 0]].map(|cut| Pieces::seed(0, cut, head.as_bytes()))).collect()
}
