//! `target = "static"`: the files of a folder, and nothing else.

use std::{fs, os::unix::fs::symlink};

use crate::support::{Gateway, Setup, http::Response, wire::Wire};

const ROUTES: &str = r#"
    [[routes]]
    path = "/echo"
    target = "echo"

    [[routes]]
    path = "/pages/*"
    target = "static"
    folder = "public"
    "#;

fn gateway() -> Gateway {
    let setup = Setup::new();
    setup.publish("public/index.html", b"<h1>here</h1>");
    setup.publish("public/app/index.html", b"app");
    setup.publish("public/app/a b.js", b"0123456789");
    setup.publish("public/.env", b"hidden");
    setup.publish("secret.txt", b"outside");
    let public = setup.path("public");
    symlink(setup.path("secret.txt"), public.join("away.txt")).unwrap();
    symlink("../secret.txt", public.join("up.txt")).unwrap();
    symlink("/etc", public.join("etc")).unwrap();
    symlink("index.html", public.join("inside.html")).unwrap();
    fs::create_dir(public.join("empty")).unwrap();
    setup.start(ROUTES)
}

fn ask(gateway: &Gateway, line: &str, headers: &[&str]) -> Response {
    let mut wire = Wire::connect(gateway.address());
    let mut lines = vec![format!("{line} HTTP/1.1"), "Host: a".to_owned(), "Connection: close".to_owned()];
    lines.extend(headers.iter().map(|header| (*header).to_owned()));
    let response = wire.ask(&lines);
    Response { body: wire.rest(), ..response }
}

#[test]
fn files_have_their_type_and_an_index_stands_for_its_folder() {
    let gateway = gateway();
    for (path, content_type, body) in [
        ("/pages/", "text/html; charset=utf-8", "<h1>here</h1>"),
        ("/pages/inside.html", "text/html; charset=utf-8", "<h1>here</h1>"),
        ("/pages/app/", "text/html; charset=utf-8", "app"),
        ("/pages/app/a%20b.js?v=1", "text/javascript; charset=utf-8", "0123456789"),
    ] {
        let answer = ask(&gateway, &format!("GET {path}"), &[]);
        let seen = (answer.status, answer.header("content-type"), answer.body.as_str());
        assert_eq!(seen, (200, Some(content_type), body), "{path}");
        assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
    }
    let answer = ask(&gateway, "HEAD /pages/", &[]);
    assert_eq!((answer.status, answer.header("content-length"), answer.body.as_str()), (200, Some("13"), ""));
    let answer = ask(&gateway, "GET /pages/app?x=1", &[]);
    assert_eq!((answer.status, answer.header("location")), (308, Some("/pages/app/?x=1")));
    gateway.wait_log(&["path=\"/pages/app/a%20b.js\"", "end=\"done\"", "bytes_to_client=10"]);
}

#[test]
fn conditions_and_ranges_are_answered() {
    let gateway = gateway();
    let file = "GET /pages/app/a%20b.js";
    let whole = ask(&gateway, file, &[]);
    let (tag, modified) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    let unchanged = ask(&gateway, file, &[&format!("If-None-Match: {tag}")]);
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
    assert_eq!(ask(&gateway, file, &[&format!("If-Modified-Since: {modified}")]).status, 304);
    let part = ask(&gateway, file, &["Range: bytes=2-4", &format!("If-Range: {tag}")]);
    assert_eq!((part.status, part.header("content-range"), &*part.body), (206, Some("bytes 2-4/10"), "234"));
    assert_eq!(ask(&gateway, file, &["Range: bytes=20-"]).status, 416);
    assert_eq!(ask(&gateway, file, &["If-Match: \"another\""]).status, 412);
    // Of another version, or with several ranges: the whole of this one.
    for asked in [["Range: bytes=2-4", "If-Range: \"another\""], ["Range: bytes=20-", "If-Range: \"another\""]] {
        let whole = ask(&gateway, file, &asked);
        assert_eq!((whole.status, &*whole.body), (200, "0123456789"), "{asked:?}");
        assert_eq!(whole.header("content-type"), Some("text/javascript; charset=utf-8"));
    }
    let whole = ask(&gateway, file, &["Range: bytes=0-1,4-5"]);
    assert_eq!((whole.status, &*whole.body), (200, "0123456789"));
}

#[test]
fn nothing_else_is_there() {
    let gateway = gateway();
    for path in [
        "/pages/missing",
        "/pages/empty/",
        "/pages/.env",
        "/pages/%2eenv",
        "/pages/../secret.txt",
        "/pages/%2e%2e/secret.txt",
        "/pages/app/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/pages/%2fetc/passwd",
        "/pages//etc/passwd",
        "/pages/away.txt",
        "/pages/up.txt",
        "/pages/etc/passwd",
        "/pages/index.html/",
        "/pages/index.html%00",
        "/other",
    ] {
        let answer = ask(&gateway, &format!("GET {path}"), &[]);
        assert!([404, 426].contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.body.contains("outside") && !answer.body.contains("root:"), "{path}: {answer:?}");
    }
    let refused = ask(&gateway, "POST /pages/", &["Content-Length: 0"]);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let opening = crate::support::wire::request(gateway.address(), "/pages/");
    assert_eq!(Wire::connect(gateway.address()).ask(&opening).status, 400);
    let mut echo = Wire::open(gateway.address(), "/echo");
    echo.text("beside it");
    assert_eq!(echo.next_text(), "beside it");
}
