use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rustls::RootCertStore;
use tokio::{net::TcpListener, time::Instant};

use super::{
    super::{ConnectError, DialError, Upstreams, UpstreamsError},
    fake::{configured, dial, endpoint, good_101, plain, request, run, serve, soon, upstreams},
};
use crate::{
    config::{self, HostHeader},
    telemetry::metrics::Metrics,
};

/// An address that refuses: it was free a moment ago.
async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn sample(metrics: &Metrics, line_start: &str) -> Option<f64> {
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    let line = text.lines().find(|line| line.starts_with(line_start))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn endpoints_take_turns() {
    run(async {
        let (one, two) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addresses = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let upstream = plain(configured(addresses.map(endpoint).into()));
        for turn in [0, 1, 0, 1] {
            // Nobody answers, so each dial ends where it got to.
            let result = upstream.dial("chat", request(&[]), Instant::now() + Duration::from_millis(20)).await;
            let Err(DialError::Timeout { endpoint }) = result else { panic!("{result:?}") };
            assert_eq!(endpoint, addresses[turn].to_string());
        }
    });
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    run(async {
        let (good, _served) = serve(|head| good_101(head).into()).await;
        let upstreams = plain(configured(vec![endpoint(refusing().await), endpoint(refusing().await), endpoint(good)]));
        upstreams.dial("chat", request(&[]), soon()).await.unwrap();
    });
}

#[test]
fn an_endpoint_that_says_no_is_believed() {
    run(async {
        let (bad, _bad) = serve(|_| b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
        let (good, served) = serve(|head| good_101(head).into()).await;
        let result = plain(configured(vec![endpoint(bad), endpoint(good)])).dial("chat", request(&[]), soon()).await;
        assert!(matches!(result, Err(DialError::Answered(_))), "{result:?}");
        assert!(!served.is_finished());
    });
}

#[test]
fn an_endpoint_that_cannot_serve_now_or_breaks_off_is_passed_over() {
    for answer in ["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "no HTTP"] {
        run(async {
            let (bad, _bad) = serve(|_| answer.into()).await;
            let (good, _served) = serve(|head| good_101(head).into()).await;
            plain(configured(vec![endpoint(bad), endpoint(good)])).dial("chat", request(&[]), soon()).await.unwrap();
        });
    }
}

#[test]
fn an_endpoint_that_does_not_answer_is_left_for_another_after_its_share_of_the_time() {
    run(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (good, _served) = serve(|head| good_101(head).into()).await;
        let mut config = configured(vec![endpoint(silent.local_addr().unwrap()), endpoint(good)]);
        config.per_try_timeout = Duration::from_millis(50);
        let upstreams = plain(config);
        upstreams.dial("chat", request(&[]), soon()).await.unwrap();
        let failures: Vec<_> =
            upstreams.status()[0].endpoints.iter().map(|endpoint| endpoint.consecutive_failures).collect();
        assert_eq!(failures, [1, 0]);
    });
}

#[test]
fn no_more_attempts_are_made_than_configured() {
    run(async {
        let addresses = [refusing().await, refusing().await, refusing().await, refusing().await];
        let mut config = configured(addresses.map(endpoint).into());
        config.retries = 1;
        let upstreams = plain(config);
        let result = upstreams.dial("chat", request(&[]), soon()).await;
        assert!(matches!(result, Err(DialError::Connect { .. })), "{result:?}");
        let asked = upstreams.status()[0].endpoints.iter().filter(|endpoint| endpoint.consecutive_failures > 0).count();
        assert_eq!(asked, 2);
    });
}

#[test]
fn where_all_refuse_each_was_tried_once_and_the_last_is_named() {
    run(async {
        let (one, two) = (refusing().await, refusing().await);
        let result = plain(configured(vec![endpoint(one), endpoint(two)])).dial("chat", request(&[]), soon()).await;
        let Err(DialError::Connect { endpoint, source: ConnectError::Tcp(error) }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((endpoint, error.kind()), (two.to_string(), std::io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn a_name_without_an_address_is_not_reached() {
    run(async {
        let nowhere = config::Endpoint::new(false, "nowhere.invalid".to_owned(), 1);
        let result = plain(configured(vec![nowhere])).dial("chat", request(&[]), soon()).await;
        assert!(matches!(result, Err(DialError::Connect { source: ConnectError::Resolve(_), .. })), "{result:?}");
    });
}

#[test]
fn a_name_is_resolved() {
    run(async {
        let (address, _served) = serve(|head| good_101(head).into()).await;
        let mut named = endpoint(address);
        named.host = "localhost".to_owned();
        plain(configured(vec![named])).dial("chat", request(&[]), soon()).await.unwrap();
    });
}

#[test]
fn a_deadline_that_has_passed_is_a_timeout_and_no_further_endpoint_is_tried() {
    run(async {
        let (one, first) = serve(|head| good_101(head).into()).await;
        let upstreams = plain(configured(vec![endpoint(one), endpoint(one)]));
        let result = upstreams.dial("chat", request(&[]), Instant::now() - Duration::from_secs(1)).await;
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
        assert!(!first.is_finished());
    });
}

#[test]
fn an_upstream_that_is_not_configured_is_unknown() {
    let upstreams = plain(configured(Vec::new()));
    let result = run(upstreams.dial("other", request(&[]), soon()));
    assert!(matches!(result, Err(DialError::Unknown { name }) if name == "other"));
    assert!(upstreams.contains("chat") && !upstreams.contains("other"));
}

#[test]
fn a_request_that_cannot_be_sent_is_not() {
    run(async {
        let (address, _served) = serve(|head| good_101(head).into()).await;
        let mut request = request(&[]);
        request.path_and_query = "/a b".to_owned();
        let result = plain(configured(vec![endpoint(address)])).dial("chat", request, soon()).await;
        assert!(matches!(result, Err(DialError::Request(_))), "{result:?}");
    });
}

#[test]
fn a_lease_counts_the_connection_until_it_is_dropped() {
    run(async {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (address, _served) = serve(|head| good_101(head).into()).await;
        let upstreams = upstreams(configured(vec![endpoint(address)]), RootCertStore::empty(), &metrics);
        let line = format!("wsgate_upstream_connections{{endpoint=\"{address}\",upstream=\"chat\"}}");
        let established = upstreams.dial("chat", request(&[]), soon()).await.unwrap();
        assert_eq!(sample(&metrics, &line), Some(1.0));
        drop(established);
        assert_eq!(sample(&metrics, &line), Some(0.0));
        assert_eq!(sample(&metrics, "wsgate_upstream_connect_duration_seconds_count"), Some(1.0));
    });
}

#[test]
fn a_failed_handshake_holds_no_lease() {
    let result = run(dial(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), &[]));
    assert!(matches!(result, Err(DialError::Answered(_))));
}

#[test]
fn a_host_header_that_cannot_be_sent_is_refused_at_the_start() {
    let mut upstream = configured(vec![endpoint(([127, 0, 0, 1], 1).into())]);
    upstream.host_header = HostHeader::Literal("a\nb".to_owned());
    let roots = Arc::new(RootCertStore::empty());
    let made = Upstreams::trusting(
        &BTreeMap::from([("chat".to_owned(), upstream)]),
        &Arc::new(Metrics::new().unwrap()),
        &roots,
        None,
    );
    assert!(matches!(made, Err(UpstreamsError::HostHeader { upstream }) if upstream == "chat"));
}
