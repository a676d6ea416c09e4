//! `[jwt.*]`, and what routes say of tokens.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;
use jsonwebtoken::Algorithm;

use super::{
    super::{
        leaf::{At, Table},
        raw::{RawJwt, RawRoute},
        types::{Jwt, KeySource, TokenSource},
    },
    A_PLAIN_NAME, Checker, is_plain_name, known_names,
};

const ALGORITHMS: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384 and HS512";
/// Beyond this a token is as good as valid for ever.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

impl Checker<'_> {
    pub(super) fn jwt(&mut self, name: &str, at: &At<Table<RawJwt>>) -> Option<(String, Jwt)> {
        if !is_plain_name(name) {
            self.refuse(at, format!("{name:?} is not {A_PLAIN_NAME}"));
        }
        let raw = &at.value;
        let algorithms = self.algorithms(at);
        let keys = self.key_source(at);
        let from = raw.from.as_ref().map_or_else(|| vec![TokenSource::Header], |from| self.token_sources(from));
        if raw.issuer.is_none() {
            self.warn(at, "there is no issuer: tokens of any issuer count whose signature is right");
        }
        if raw.audience.is_none() {
            self.warn(at, "there is no audience: tokens count whoever they are meant for");
        }
        let leeway = self.time(raw.leeway.as_ref(), Duration::from_secs(30), Duration::ZERO);
        if let Some(at) = raw.leeway.as_ref().filter(|_| leeway > MAX_LEEWAY) {
            self.refuse_as(at, "accepted; write at most \"10m\"");
        }
        let code = self.close_code(raw.on_expiry.code.as_ref(), 4401);
        let texts = |texts: &[At<String>]| texts.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
        let jwt = Jwt {
            issuer: raw.issuer.as_ref().map(|at| at.value.clone()),
            audience: raw.audience.as_ref().map(|at| texts(&at.value)).unwrap_or_default(),
            keys: keys?,
            algorithms,
            from,
            required_scopes: texts(&raw.required_scopes),
            leeway,
            require_exp: raw.require_exp.unwrap_or(true),
            expiry_grace: self.time(raw.on_expiry.grace.as_ref(), Duration::ZERO, Duration::ZERO),
            expiry_code: code,
            refresh: raw.refresh.unwrap_or(false),
        };
        Some((name.to_owned(), jwt))
    }

    fn key_source(&mut self, at: &At<Table<RawJwt>>) -> Option<KeySource> {
        let raw = &at.value;
        self.only_by_url(raw);
        let given = [&raw.public_key_file, &raw.secret_file, &raw.jwks_file, &raw.jwks_url];
        let given: Vec<_> = given.into_iter().flatten().collect();
        match given.as_slice() {
            [] => {
                let message = "missing; write public_key_file, jwks_file, jwks_url or secret_file";
                self.refuse_key(Some(at), "public_key_file", message);
                return None;
            }
            [_] => {}
            [_, second, ..] => self.refuse(second, "keys come from one place; remove one of these"),
        }
        let file = |at: &Option<At<String>>, checker: &mut Self| at.as_ref().map(|at| checker.path(at));
        file(&raw.public_key_file, self)
            .map(KeySource::PublicKeyFile)
            .or_else(|| file(&raw.secret_file, self).map(KeySource::SecretFile))
            .or_else(|| file(&raw.jwks_file, self).map(KeySource::JwksFile))
            .or_else(|| self.jwks_url(raw))
    }

    fn algorithms(&mut self, at: &At<Table<RawJwt>>) -> Vec<Algorithm> {
        let Some(named) = &at.value.algorithms else {
            self.refuse_key(Some(at), "algorithms", &format!("missing; write some of {ALGORITHMS}"));
            return Vec::new();
        };
        if named.value.is_empty() {
            self.refuse(named, format!("no token would count; write some of {ALGORITHMS}"));
        }
        self.all_differ(&named.value, "algorithm");
        let mut algorithms = Vec::new();
        for at in &named.value {
            match at.value.parse::<Algorithm>() {
                Ok(algorithm) => algorithms.push(algorithm),
                Err(_) => self.refuse_as(at, format!("a signature algorithm; use {ALGORITHMS}")),
            }
        }
        let secret = at.value.secret_file.is_some();
        let hmac = |algorithm: &Algorithm| algorithm.family() == jsonwebtoken::AlgorithmFamily::Hmac;
        if algorithms.iter().any(|algorithm| hmac(algorithm) != secret) {
            // A public key that is taken for a secret is the oldest of all attacks on tokens.
            self.refuse(named, "HS256, HS384 and HS512 go with secret_file, and with nothing else");
        }
        algorithms
    }

    fn token_sources(&mut self, from: &At<Vec<At<String>>>) -> Vec<TokenSource> {
        if from.value.is_empty() {
            self.refuse(
                from,
                "no token would be found; write \"header\", \"subprotocol\", \"cookie:NAME\" or \"query:NAME\"",
            );
        }
        self.all_differ(&from.value, "place");
        let mut sources = Vec::new();
        for at in &from.value {
            let named = |name: &str| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
                (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
            };
            let source = match at.value.split_once(':') {
                None if at.value == "header" => Some(TokenSource::Header),
                None if at.value == "subprotocol" => Some(TokenSource::Subprotocol),
                Some(("cookie", name)) => named(name).map(TokenSource::Cookie),
                Some(("query", name)) => named(name).map(TokenSource::Query),
                _ => None,
            };
            match source {
                Some(source) => sources.push(source),
                None => {
                    self.refuse_as(
                        at,
                        "a place for tokens; write \"header\", \"subprotocol\", \"cookie:NAME\" or \"query:NAME\"",
                    );
                }
            }
        }
        sources
    }

    /// `auth` of a route.
    pub(super) fn auth(&mut self, raw: &RawRoute) -> Option<String> {
        let at = raw.auth.as_ref()?;
        if at.value == "none" {
            return None;
        }
        if !self.is_full() && !self.document.has("jwt", &at.value) {
            let known: Vec<_> = self.document.names("jwt").chain(["none"]).collect();
            let accepted = known_names(&at.value, &known, "there is no [jwt.*] table");
            self.refuse_as(at, format!("a [jwt.*] table; {accepted}"));
        }
        Some(at.value.clone())
    }

    /// `claims_to_headers` of a route.
    pub(super) fn claims_to_headers(&mut self, raw: &RawRoute) -> Vec<(HeaderName, String)> {
        let headers = self.claim_headers(&raw.claims_to_headers);
        if let Some(at) = raw.claims_to_headers.values().next()
            && raw.auth.as_ref().is_none_or(|auth| auth.value == "none")
        {
            self.refuse(at, "without auth there are no claims; set auth, or remove this");
        }
        headers
    }

    fn claim_headers(&mut self, raw: &BTreeMap<String, At<String>>) -> Vec<(HeaderName, String)> {
        let mut seen = Default::default();
        let mut headers = Vec::new();
        for (name, claim) in raw {
            let named = At { value: name.clone(), span: claim.span.clone() };
            if claim.value.is_empty() {
                self.refuse_as(claim, "the name of a claim");
            }
            if let Some(name) = self.header_name(&named, &mut seen) {
                headers.push((name, claim.value.clone()));
            }
        }
        headers
    }
}
