//! Whether the page that a browser shows may connect (RFC 6455 section 10.2): without this, any page could use its
//! visitors' cookies.

use http::{HeaderMap, Method, header};

use super::refusal::Refusal;
use crate::{
    config::pattern::OriginRule,
    http_head::{Authority, page_port},
};

/// What a request says of its origin.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Absent,
    Null,
    Of {
        scheme: String,
        host: String,
        port: Option<u16>,
    },
    /// Two of them, or what no browser writes.
    Malformed,
}

/// The host and port that the client asked for.
pub(super) type Asked<'a> = (&'a str, Option<u16>);

/// Refuses with 403 what no rule takes.
pub(super) fn check(rules: &[OriginRule], headers: &HeaderMap, asked: Asked<'_>) -> Result<(), Refusal> {
    if Origin::of(headers).is_taken(rules, asked) { Ok(()) } else { Err(Refusal::origin()) }
}

/// What is compared of a request that opens no WebSocket; `None`: nothing. Browsers send no `Origin` where somebody follows
/// a link, nor where a page reads from its own origin.
pub(super) fn of_plain(method: &Method, headers: &HeaderMap) -> Option<Origin> {
    let origin = Origin::of(headers);
    let reads = *method == Method::GET || *method == Method::HEAD;
    (!reads || origin != Origin::Absent).then_some(origin)
}

fn takes(rule: &OriginRule, origin: &Origin, asked: Asked<'_>) -> bool {
    match (rule, origin) {
        (OriginRule::Any, _) => true,
        (OriginRule::Absent, Origin::Absent) | (OriginRule::Null, Origin::Null) => true,
        (OriginRule::SameOrigin, Origin::Of { scheme, host, port }) => is_same(scheme, host, *port, asked),
        (OriginRule::Page(page), Origin::Of { scheme, host, port }) => {
            page_port(scheme).is_some_and(|default| page.matches(scheme == "https", host, port.unwrap_or(default)))
        }
        (OriginRule::App(app), Origin::Of { scheme, host, port }) => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            *app == format!("{scheme}://{host}{port}")
        }
        (
            OriginRule::Absent | OriginRule::Null | OriginRule::SameOrigin | OriginRule::Page(_) | OriginRule::App(_),
            Origin::Absent | Origin::Null | Origin::Of { .. } | Origin::Malformed,
        ) => false,
    }
}

/// TLS may end before this gateway, so `https` is as good as `http`.
fn is_same(scheme: &str, host: &str, port: Option<u16>, (asked_host, asked_port): Asked<'_>) -> bool {
    let Some(default) = page_port(scheme) else { return false };
    asked_host == host && asked_port.unwrap_or(default) == port.unwrap_or(default)
}

impl Origin {
    /// Does one of the rules take it?
    pub(super) fn is_taken(&self, rules: &[OriginRule], asked: Asked<'_>) -> bool {
        rules.iter().any(|rule| takes(rule, self, asked))
    }

    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Absent,
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Self::Malformed,
        };
        match value.to_str() {
            Ok("null") => Self::Null,
            Ok(text) => Self::parse(text).unwrap_or(Self::Malformed),
            Err(_) => Self::Malformed,
        }
    }

    /// RFC 6454 section 6.2.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let Authority { host, port } = Authority::parse(authority)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        (!scheme.is_empty() && scheme.bytes().all(plain)).then(|| Self::Of {
            scheme: scheme.to_ascii_lowercase(),
            host,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;
    use crate::handshake::request::Requested;

    fn refused(rules: &[&str], host: &str, origins: &[&str]) -> bool {
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = "/".parse().unwrap();
        let headers = request.headers_mut();
        for (name, value) in [
            ("host", host),
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        for origin in origins {
            headers.append("origin", HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        let rules: Vec<OriginRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let (parts, ()) = request.into_parts();
        let requested = Requested::check(&parts).unwrap();
        check(&rules, &parts.headers, (&requested.host, requested.port)).is_err()
    }

    const DEFAULT: [&str; 2] = ["same-origin", "absent"];

    #[test]
    fn by_default_only_pages_of_the_same_host_and_programs_connect() {
        for (host, origin) in [
            ("chat.example.com", "https://chat.example.com"),
            ("Chat.Example.com", "http://chat.example.com"),
            ("chat.example.com:443", "https://chat.example.com"),
            ("chat.example.com:8080", "http://chat.example.com:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert!(!refused(&DEFAULT, host, &[origin]), "{host} {origin}");
        }
        assert!(!refused(&DEFAULT, "chat.example.com", &[]));
        for (host, origin) in [
            ("good.com", "https://good.com.evil"),
            ("good.com", "https://evil.good.com"),
            ("good.com", "https://evilgood.com"),
            ("good.com", "https://good.com:8443"),
            ("good.com:80", "https://good.com"),
            ("good.com", "null"),
            ("good.com", ""),
            ("good.com", "good.com"),
            ("good.com", "https://"),
            ("good.com", "https://good.com/"),
            ("good.com", "https://good.com@evil.com"),
            ("good.com", "https://good.com https://evil.com"),
            ("good.com", "file://good.com"),
            ("good.com", "https://g\u{f6}od.com"),
        ] {
            assert!(refused(&DEFAULT, host, &[origin]), "{host} {origin}");
        }
        assert!(refused(&DEFAULT, "good.com", &["https://good.com", "https://good.com"]));
    }

    #[test]
    fn listed_origins_are_compared_with_scheme_and_port() {
        let rules = ["https://app.example.com", "https://*.example.org", "http://localhost:3000"];
        for origin in
            ["https://app.example.com", "https://app.example.com:443", "https://a.example.org", "http://localhost:3000"]
        {
            assert!(!refused(&rules, "gateway", &[origin]), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:444",
            "https://example.org",
            "https://evil.com",
            "https://app.example.com.evil.com",
            "https://example.org.evil.com",
            "http://localhost",
            "http://localhost:3001",
            "http://gateway",
        ] {
            assert!(refused(&rules, "gateway", &[origin]), "{origin}");
        }
        assert!(refused(&rules, "gateway", &[]), "absent is not listed");
    }

    #[test]
    fn null_any_and_applications_are_named() {
        assert!(!refused(&["tauri://localhost"], "h", &["tauri://localhost"]));
        assert!(refused(&["tauri://localhost"], "h", &["tauri://localhost.evil"]));
        assert!(!refused(&["null"], "h", &["null"]));
        assert!(refused(&["null"], "h", &[]));
        for origins in [&["null"][..], &[], &["https://x.y"], &["%"]] {
            assert!(!refused(&["any"], "h", origins));
        }
    }
}
