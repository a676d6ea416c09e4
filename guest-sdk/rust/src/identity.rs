//! Reading what a verified token says.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Identity};

impl Identity {
    /// Whether this scope was granted.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }

    /// Whether every one of these scopes was granted.
    pub fn has_scopes(&self, scopes: &[impl AsRef<str>]) -> bool {
        scopes.iter().all(|scope| self.has_scope(scope.as_ref()))
    }

    /// How long the token is still valid; none where it has no end, zero where it is over.
    pub fn remaining(&self) -> Option<Duration> {
        let ends_ms = self.expires_at?.saturating_mul(1_000);
        Some(Duration::from_millis(ends_ms.saturating_sub(crate::clock::now_ms())))
    }

    /// All verified claims, as a type of one's own.
    ///
    /// # Errors
    ///
    /// Where the claims do not fit the type; the error names the claim.
    pub fn parse_claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        crate::config::parse(&self.claims).map_err(|error| error.context("claims"))
    }

    /// One claim by its name; none where it is absent or null.
    ///
    /// ```
    /// use wsgate_sdk::testing;
    ///
    /// let ann = testing::identity("ann").with_claim("tenant", "acme").with_claim("realm", serde_json::json!({ "roles": ["dj"] }));
    /// assert_eq!(ann.claim::<String>("tenant")?.as_deref(), Some("acme"));
    /// assert_eq!(ann.claim::<u64>("quota")?, None);
    /// assert_eq!(ann.claim_at::<Vec<String>>("/realm/roles")?.unwrap_or_default(), ["dj"]);
    /// # Ok::<(), wsgate_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the claim does not fit the type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let mut claims = self.parse_claims::<Value>()?;
        fitting(name, claims.get_mut(name))
    }

    /// What lies at a JSON pointer (RFC 6901) in the claims; none where it is absent or null.
    ///
    /// # Errors
    ///
    /// Where it does not fit the type.
    pub fn claim_at<T: DeserializeOwned>(&self, pointer: &str) -> Result<Option<T>, Error> {
        let mut claims = self.parse_claims::<Value>()?;
        fitting(pointer, claims.pointer_mut(pointer))
    }
}

fn fitting<T: DeserializeOwned>(name: &str, claim: Option<&mut Value>) -> Result<Option<T>, Error> {
    match claim.map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let read = serde_json::from_value(value);
            read.map(Some).map_err(|error| Error::new(format_args!("claims: {name}: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Host, identity};

    #[test]
    fn claims_that_do_not_fit_name_the_claim() {
        #[derive(Debug, serde::Deserialize)]
        struct Claims {
            #[serde(rename = "tenant")]
            _tenant: String,
        }
        let ann = identity("ann").with_claim("tenant", 7);
        let error = ann.parse_claims::<Claims>().unwrap_err().to_string();
        assert_eq!(error, "claims: tenant: invalid type: integer `7`, expected a string");
        let error = ann.claim::<String>("tenant").unwrap_err().to_string();
        assert_eq!(error, "claims: tenant: invalid type: integer `7`, expected a string");
    }

    #[test]
    fn a_claim_that_is_null_is_absent() {
        let ann = identity("ann").with_claim("tenant", Value::Null);
        assert_eq!(ann.claim::<String>("tenant"), Ok(None));
        assert_eq!(ann.claim_at::<String>("/a/b"), Ok(None));
        assert_eq!(Identity { claims: "?".into(), ..ann }.claim::<u8>("x").map_err(|_| ()), Err(()));
    }

    #[test]
    fn scopes_are_compared_whole() {
        let ann = identity("ann").with_scope("chat").with_scope("admin.read");
        assert!(ann.has_scope("chat") && !ann.has_scope("admin"));
        assert!(ann.has_scopes(&["chat", "admin.read"]) && !ann.has_scopes(&["chat", "admin"]));
        assert!(ann.has_scopes(&[] as &[&str]));
    }

    #[test]
    fn the_remaining_time_ends_at_zero() {
        let host = Host::new().with_time(10_500);
        let ann = testing::identity("ann");
        assert_eq!(ann.remaining(), None);
        let ann = ann.with_claim("exp", 12);
        assert_eq!(ann.remaining(), Some(Duration::from_millis(1_500)));
        host.advance(Duration::from_secs(9));
        assert_eq!(ann.remaining(), Some(Duration::ZERO));
    }
}
