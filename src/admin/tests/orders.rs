//! What operators tell the gateway about filters.

use super::*;

#[test]
fn one_filter_is_shown_alone() {
    with(On::Admin, |served| async move {
        let answer = get(served.address, "/v1/filters/redact").await;
        let filter: serde_json::Value = serde_json::from_str(body_of(&answer)).unwrap();
        assert_eq!((&filter["name"], &filter["mode"]), (&"redact".into(), &"serve".into()));
        let unknown = get(served.address, "/v1/filters/other").await;
        assert_eq!(status_of(&unknown), "404");
        assert!(body_of(&unknown).contains("no filter of this name"), "{unknown}");
    });
}

#[test]
fn orders_are_carried_out() {
    with(On::Admin, |served| async move {
        let tell = async |method, path, body| tell(served.address, method, path, JSON_TYPE, body).await;
        let (status, body) = tell("POST", "/v1/filters/redact/mode", r#"{"mode": "bypass"}"#).await;
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("200", r#"{"before":"serve","filter":"redact","mode":"bypass"}"#)
        );
        let (status, _) = tell("DELETE", "/v1/filters/redact/quarantine/abc", "").await;
        assert_eq!(
            (status.as_str(), served.filters.told()),
            ("200", vec!["mode bypass".to_owned(), "lift abc".to_owned()])
        );
        for (expected, part) in [("200", "rolled_back"), ("409", "nothing to roll back to"), ("503", "try again")] {
            let (status, body) = tell("POST", "/v1/filters/redact/rollback", "").await;
            assert_eq!(status, expected, "{body}");
            assert!(body.contains(part), "{body}");
        }
        for (method, path, body) in [
            ("POST", "/v1/filters/other/mode", r#"{"mode":"serve"}"#),
            ("POST", "/v1/filters/other/rollback", "{}"),
            ("DELETE", "/v1/filters/other/quarantine/abc", ""),
        ] {
            served.filters.told();
            assert_eq!(tell(method, path, body).await.0, "404", "{path}");
        }
    });
}

#[test]
fn orders_that_are_not_understood_are_refused_and_do_nothing() {
    with(On::Admin, |served| async move {
        let mode = "/v1/filters/redact/mode";
        let long = format!(r#"{{"mode":"{}"}}"#, "x".repeat(5000));
        for (body, expected, part) in [
            ("", "400", "missing field `mode`"),
            ("{", "400", "EOF"),
            (r#"{"mode":"off"}"#, "400", "expected one of `serve`, `bypass`, `refuse`"),
            (r#"{"mode":"serve","for":"1h"}"#, "400", "unknown field `for`"),
            (long.as_str(), "413", "4096"),
        ] {
            let (status, answer) = tell(served.address, "POST", mode, JSON_TYPE, body).await;
            assert_eq!(status, expected, "{body}: {answer}");
            assert!(answer.contains(part), "{body}: {answer}");
        }
        let (status, _) = tell(served.address, "POST", "/v1/filters/redact/rollback", JSON_TYPE, r#"{"to":"x"}"#).await;
        assert_eq!(status, "400");
        // What the form of a page can send.
        for media_type in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""] {
            let body = r#"{"mode":"bypass"}"#;
            assert_eq!(tell(served.address, "POST", mode, media_type, body).await.0, "415", "{media_type}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(tell(served.address, method, mode, JSON_TYPE, "{}").await.0, "405", "{method}");
        }
        assert_eq!(served.filters.told(), Vec::<String>::new());
    });
}

#[test]
fn orders_of_another_site_are_refused() {
    with(On::Admin, |served| async move {
        for foreign in ["Host: evil.example", "Host: localhost\r\nOrigin: https://evil.example"] {
            for line in ["POST /v1/filters/redact/rollback", "DELETE /v1/filters/redact/quarantine/abc"] {
                let head = format!("{foreign}\r\nConnection: close\r\nContent-Type: {JSON_TYPE}");
                let answer =
                    send(served.address, &format!("{line} HTTP/1.1\r\n{head}\r\nContent-Length: 0\r\n\r\n")).await;
                assert_eq!(status_of(&answer), "403", "{foreign} {line}");
            }
        }
        assert_eq!(served.filters.told(), Vec::<String>::new());
    });
}

#[test]
fn a_drain_is_started_seen_and_taken_back() {
    with(On::Admin, |served| async move {
        let phase = |answer: &str| serde_json::from_str::<serde_json::Value>(answer).unwrap()["phase"].clone();
        assert_eq!(phase(body_of(&get(served.address, "/v1/drain").await)), "serving");
        let (status, body) = tell(served.address, "POST", "/v1/drain", JSON_TYPE, "").await;
        assert_eq!((status.as_str(), phase(&body)), ("200", "delay".into()));
        let (status, body) = tell(served.address, "DELETE", "/v1/drain", JSON_TYPE, "").await;
        assert_eq!((status.as_str(), phase(&body)), ("200", "serving".into()));
        for (body, media_type, expected) in [("{\"now\":true}", JSON_TYPE, "400"), ("{}", "text/plain", "415")] {
            assert_eq!(tell(served.address, "POST", "/v1/drain", media_type, body).await.0, expected);
        }
        assert!(!served.drain.is_draining());
        served.drain.leave();
        let (status, body) = tell(served.address, "DELETE", "/v1/drain", JSON_TYPE, "").await;
        assert_eq!(status, "409");
        assert!(body.contains("told to stop"), "{body}");
    });
}
