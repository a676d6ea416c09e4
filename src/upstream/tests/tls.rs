use std::{net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::{
    super::{ConnectError, DialError, Upstreams, UpstreamsError},
    fake::{configured, good_101, plain, read_head, request, run, soon, upstreams},
};
use crate::{config, telemetry::metrics::Metrics};

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn trusting(certificate: &CertifiedKey<KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    roots
}

/// Answers one handshake over TLS and echoes four bytes. Gives the server name and the protocol that were asked for.
async fn serve(certificate: &CertifiedKey<KeyPair>) -> (SocketAddr, JoinHandle<Option<(String, Vec<u8>)>>) {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let head = read_head(&mut stream).await;
        stream.write_all(good_101(&head).as_bytes()).await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        stream.write_all(&echo).await.unwrap();
        let session = stream.get_ref().1;
        Some((
            session.server_name().unwrap_or_default().to_owned(),
            session.alpn_protocol().unwrap_or_default().to_vec(),
        ))
    });
    (address, served)
}

fn wss(host: &str, port: u16) -> config::Upstream {
    configured(vec![config::Endpoint::new(true, host.to_owned(), port)])
}

#[test]
fn a_wss_endpoint_is_shown_its_name_and_http_1_1() {
    run(async {
        let certificate = certificate();
        let (address, served) = serve(&certificate).await;
        let upstreams =
            upstreams(wss("localhost", address.port()), trusting(&certificate), &Arc::new(Metrics::new().unwrap()));
        let mut established = upstreams.dial("chat", request(&[]), soon()).await.unwrap();
        assert!(established.transport.is_tls());
        let socket = std::net::TcpStream::from(established.transport.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(socket.peer_addr().unwrap(), address);
        assert!(socket.nodelay().unwrap());

        established.transport.write_all(b"ping").await.unwrap();
        established.transport.flush().await.unwrap();
        let mut echo = [0; 4];
        established.transport.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
        assert_eq!(served.await.unwrap(), Some(("localhost".to_owned(), b"http/1.1".to_vec())));
    });
}

async fn refused(upstream: config::Upstream, roots: RootCertStore) -> std::io::Error {
    let result =
        upstreams(upstream, roots, &Arc::new(Metrics::new().unwrap())).dial("chat", request(&[]), soon()).await;
    match result {
        Err(DialError::Connect { source: ConnectError::Tls(error), .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    run(async {
        let (address, served) = serve(&certificate()).await;
        let error = refused(wss("localhost", address.port()), trusting(&certificate())).await;
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(served.await.unwrap(), None);
    });
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    run(async {
        let certificate = certificate();
        let (address, served) = serve(&certificate).await;
        let error = refused(wss("127.0.0.1", address.port()), trusting(&certificate)).await;
        assert!(error.to_string().contains("not valid for name"), "{error}");
        assert_eq!(served.await.unwrap(), None);
    });
}

#[test]
fn a_server_without_tls_is_refused() {
    run(async {
        let (address, _served) = super::fake::serve(|_| Vec::new()).await;
        let mut upstream = wss("localhost", address.port());
        upstream.connect_timeout = Duration::from_millis(200);
        let result = plain(upstream).dial("chat", request(&[]), soon()).await;
        // It waits for a line that TLS never sends.
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
    });
}

#[test]
fn connect_timeout_covers_a_tls_handshake_that_stalls() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut upstream = wss("localhost", listener.local_addr().unwrap().port());
        upstream.connect_timeout = Duration::from_millis(50);
        let start = Instant::now();
        let result = plain(upstream).dial("chat", request(&[]), soon()).await;
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_host_that_can_have_no_certificate_is_refused_at_the_start() {
    let roots = Arc::new(RootCertStore::empty());
    let upstreams = [("chat".to_owned(), wss("a b", 443))].into();
    let made = Upstreams::trusting(&upstreams, &Arc::new(Metrics::new().unwrap()), &roots, None);
    assert!(matches!(made, Err(UpstreamsError::ServerName { endpoint }) if endpoint == "a b:443"));
}
