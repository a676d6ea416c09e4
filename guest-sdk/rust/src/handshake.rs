//! Reading an opening request.

use serde::de::DeserializeOwned;

use crate::{Error, Handshake, Identity};

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
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
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
}

impl Identity {
    /// Whether this scope was granted.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }

    /// All verified claims, as a type of one's own.
    ///
    /// # Errors
    ///
    /// Where the claims do not fit the type; the error names the claim.
    pub fn parse_claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        crate::config::parse(&self.claims).map_err(|error| error.context("claims"))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;
    use crate::{Header, Identity};

    #[test]
    fn the_first_header_of_a_name_counts() {
        let handshake = testing::handshake("/").with_header("x-a", "1").with_header("X-A", "2");
        assert_eq!(handshake.header("X-a"), Some("1"));
        assert_eq!(handshake.header("x-b"), None);
    }

    #[test]
    fn a_header_that_is_not_utf8_has_no_text() {
        let mut handshake = testing::handshake("/");
        handshake.headers.push(Header { name: "x-a".into(), value: vec![0xff] });
        assert_eq!(handshake.header("x-a"), None);
    }

    #[test]
    fn parameters_and_subprotocols_are_found_by_name() {
        let mut handshake = testing::handshake("/chat/7").with_parameter("room", "7");
        handshake.subprotocols.push("graphql-transport-ws".into());
        assert_eq!(handshake.parameter("room"), Some("7"));
        assert_eq!(handshake.parameter("user"), None);
        assert!(handshake.offers_subprotocol("graphql-transport-ws"));
        assert!(!handshake.offers_subprotocol("GRAPHQL-transport-ws"));
    }

    #[test]
    fn claims_that_do_not_fit_name_the_claim() {
        #[derive(Debug, serde::Deserialize)]
        struct Claims {
            #[serde(rename = "tenant")]
            _tenant: String,
        }
        let identity = Identity {
            subject: None,
            issuer: None,
            scopes: vec!["chat".into()],
            expires_at: None,
            claims: r#"{ "tenant": 7 }"#.into(),
        };
        let error = identity.parse_claims::<Claims>().unwrap_err().to_string();
        assert_eq!(error, "claims: tenant: invalid type: integer `7`, expected a string");
        assert!(identity.has_scope("chat") && !identity.has_scope("admin"));
    }
}
