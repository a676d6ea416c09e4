//! Reading an opening request.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::Handshake;

impl Handshake {
    /// The value of the first header of this name, in any case; none where it is not UTF-8.
    ///
    /// ```
    /// use wsgate_sdk::testing;
    ///
    /// let handshake = testing::handshake("/chat").with_header("origin", "https://app.example.com");
    /// assert_eq!(handshake.header("Origin"), Some("https://app.example.com"));
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header_values(name).next()?).ok()
    }

    /// The values of all headers of this name, in any case, in their order. They need not be UTF-8.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.as_slice())
    }

    /// The cookies that the client sent, as names and values (RFC 6265, section 4.2.1). What is not UTF-8 is left out,
    /// and so is what has no `=`.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.header_values("cookie").filter_map(|value| std::str::from_utf8(value).ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Some((name.trim(), quoted.unwrap_or(value)))
        })
    }

    /// The first cookie of this name. Case counts.
    ///
    /// ```
    /// use wsgate_sdk::testing;
    ///
    /// let handshake = testing::handshake("/").with_header("cookie", "theme=dark; session=\"a=b\"");
    /// assert_eq!(handshake.cookie("session"), Some("a=b"));
    /// assert_eq!(handshake.cookie("Theme"), None);
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find_map(|(cookie, value)| (cookie == name).then_some(value))
    }

    /// The pairs of the query as forms write them: percent-decoded, `+` is a space. What is not UTF-8 then becomes U+FFFD.
    /// A name without `=` has an empty value.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
    }

    /// The first value of this name in the query.
    ///
    /// ```
    /// use wsgate_sdk::testing;
    ///
    /// let handshake = testing::handshake("/chat").with_query("name=Zo%C3%AB+B&quiet");
    /// assert_eq!(handshake.query_value("name").as_deref(), Some("Zoë B"));
    /// assert_eq!(handshake.query_value("quiet").as_deref(), Some(""));
    /// assert_eq!(handshake.query_value("room"), None);
    /// ```
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// What the part `{name}` of the route's path matched.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(parameter, _)| parameter == name)?;
        Some(value)
    }

    /// Whether the client offered this subprotocol. Case counts (RFC 6455, section 1.9).
    pub fn offers_subprotocol(&self, name: &str) -> bool {
        self.subprotocols.iter().any(|offered| offered == name)
    }

    /// The client's address without its port.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client.parse::<SocketAddr>().ok().map(|address| address.ip())
    }

    /// The claim `sub` of the client's token.
    pub fn subject(&self) -> Option<&str> {
        self.identity.as_ref()?.subject.as_deref()
    }
}

/// A part of a form: `%` and two hexadecimal digits are a byte, `+` is a space, everything else stays.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) => b' ',
            (other, _) => *other,
        });
    }
    Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_header_of_a_name_counts() {
        let handshake = testing::handshake("/").with_header("x-a", "1").with_header("X-A", "2");
        assert_eq!(handshake.header("X-a"), Some("1"));
        assert_eq!(handshake.header_values("x-A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(handshake.header("x-b"), None);
    }

    #[test]
    fn a_header_that_is_not_utf8_has_no_text() {
        let handshake = testing::handshake("/").with_header("x-a", vec![0xff]);
        assert_eq!(handshake.header("x-a"), None);
    }

    #[test]
    fn cookies_come_from_every_line() {
        let handshake = testing::handshake("/")
            .with_header("cookie", "a=1;b = 2 ; c; =e; q=\"")
            .with_header("cookie", vec![0xff])
            .with_header("cookie", "a=3");
        let cookies: Vec<_> = handshake.cookies().collect();
        assert_eq!(cookies, [("a", "1"), ("b", "2"), ("", "e"), ("q", "\""), ("a", "3")]);
        assert_eq!(handshake.cookie("a"), Some("1"));
    }

    #[test]
    fn queries_are_decoded_once() {
        let pairs = |query: &str| {
            let handshake = testing::handshake("/").with_query(query);
            handshake.query_pairs().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs("a=b=c&&d"), ["a=b=c", "d="]);
        assert_eq!(pairs("%61+=%2541%2b%26"), ["a =%41+&"]);
        assert_eq!(pairs("a=%&b=%4&c=%zz&d=%ff&e=%+1"), ["a=%", "b=%4", "c=%zz", "d=\u{fffd}", "e=% 1"]);
        assert_eq!(testing::handshake("/").query_pairs().count(), 0);
    }

    #[test]
    fn parameters_and_subprotocols_are_found_by_name() {
        let handshake =
            testing::handshake("/chat/7").with_parameter("room", "7").with_subprotocol("graphql-transport-ws");
        assert_eq!(handshake.parameter("room"), Some("7"));
        assert_eq!(handshake.parameter("user"), None);
        assert!(handshake.offers_subprotocol("graphql-transport-ws"));
        assert!(!handshake.offers_subprotocol("GRAPHQL-transport-ws"));
    }

    #[test]
    fn the_client_has_an_address() {
        let from = |client: &str| Handshake { client: client.into(), ..testing::handshake("/") }.client_ip();
        assert_eq!(from("192.0.2.1:99"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(from("[2001:db8::1]:99"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(from("unknown"), None);
    }
}
