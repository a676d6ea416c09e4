//! A server on the loopback that answers one head of a request with given bytes, and the upstreams that lead to it.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use rustls::RootCertStore;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use super::super::{Client, Established, UpstreamRequest, Upstreams};
use crate::{config, http_head, telemetry::metrics::Metrics};

/// Far more than any test needs.
pub(super) const PLENTY: Duration = Duration::from_secs(20);

pub(super) fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Answers one connection with what `answer` makes of its head, then keeps it open. Gives head and stream.
pub(crate) async fn serve(
    answer: impl Fn(&str) -> Vec<u8> + Send + 'static,
) -> (SocketAddr, JoinHandle<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        // The gateway may hang up on a bad answer before it has taken all of it.
        drop(stream.write_all(&answer(&head)).await);
        (head, stream)
    });
    (address, served)
}

pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A 101 that answers the request as RFC 6455 wants.
pub(crate) fn good_101(head: &str) -> String {
    let accept = http_head::accept(&HeaderValue::from_str(header(head, "sec-websocket-key").unwrap()).unwrap());
    let accept = accept.to_str().unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The one value of a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values =
        head.lines().filter_map(|line| line.split_once(": ")).filter(|(n, _)| n.eq_ignore_ascii_case(name));
    let value = values.next().map(|(_, value)| value);
    assert!(values.next().is_none(), "{name} more than once in {head}");
    value
}

pub(super) fn endpoint(address: SocketAddr) -> config::Endpoint {
    config::Endpoint::new(false, address.ip().to_string(), address.port())
}

pub(super) fn configured(endpoints: Vec<config::Endpoint>) -> config::Upstream {
    let configured = config::Upstream::with_endpoints(endpoints);
    config::Upstream {
        connect_timeout: PLENTY,
        per_try_timeout: PLENTY,
        balance: config::Balance::RoundRobin,
        ..configured
    }
}

/// Upstreams with one of them, named `chat`, that trust these certificates.
pub(super) fn upstreams(upstream: config::Upstream, roots: RootCertStore, metrics: &Arc<Metrics>) -> Upstreams {
    Upstreams::trusting(&BTreeMap::from([("chat".to_owned(), upstream)]), metrics, &Arc::new(roots), None).unwrap()
}

pub(super) fn plain(upstream: config::Upstream) -> Upstreams {
    upstreams(upstream, RootCertStore::empty(), &Arc::new(Metrics::new().unwrap()))
}

pub(super) fn request(subprotocols: &[&str]) -> UpstreamRequest {
    UpstreamRequest {
        path_and_query: "/room?x=1".to_owned(),
        headers: HeaderMap::new(),
        client_host: HeaderValue::from_static("client.example:8080"),
        subprotocols: subprotocols.iter().map(|name| (*name).to_owned()).collect(),
        client: Client::default(),
    }
}

pub(super) fn soon() -> Instant {
    Instant::now() + PLENTY
}

/// Dials one endpoint that answers so.
pub(super) async fn dial(
    answer: impl Fn(&str) -> Vec<u8> + Send + 'static,
    subprotocols: &[&str],
) -> Result<Established, super::super::DialError> {
    let (address, _served) = serve(answer).await;
    plain(configured(vec![endpoint(address)])).dial("chat", request(subprotocols), soon()).await
}
