//! One revocation: as it is ordered, kept and shown.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SHARDS;

/// The longest name of a token, login, subject or issuer. A token has 12 KiB at most.
const MAX_NAME_BYTES: usize = 512;
/// The end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// What is revoked, and until when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// One token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Box<str>>,
    /// All tokens of one login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<Box<str>>,
    /// All tokens of one subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<Box<str>>,
    /// Of this issuer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<Box<str>>,
    /// In seconds of Unix time.
    pub until: u64,
}

/// What is wrong with a revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// It names nothing, or several things.
    #[error("name exactly one of \"jti\", \"sid\" and \"sub\"")]
    NotOne,
    /// A name has no character, or very many.
    #[error("a name has 1 to {MAX_NAME_BYTES} bytes")]
    Name,
    /// It would never count.
    #[error("\"until\" is over; write a time to come, in seconds of Unix time")]
    Over,
    /// Perhaps in milliseconds.
    #[error("\"until\" is later than the year 9999; write seconds of Unix time")]
    TooLate,
}

/// The claim by which tokens are found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Claim {
    Jti,
    Sid,
    Sub,
}

/// By what a revocation is found, and the cursor of a list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key([u8; 16]);

impl Key {
    pub(super) fn of(claim: Claim, value: &str, issuer: Option<&str>) -> Self {
        let claim = match claim {
            Claim::Jti => 1,
            Claim::Sid => 2,
            Claim::Sub => 3,
        };
        // Lengths first: no two differ only in where the issuer ends.
        let issued = issuer.map_or(u64::MAX, |issuer| issuer.len() as u64);
        let hash = Sha256::new()
            .chain_update([claim])
            .chain_update(issued.to_le_bytes())
            .chain_update(issuer.unwrap_or_default())
            .chain_update(value);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }

    /// In the order of the keys.
    pub(super) fn shard(&self) -> usize {
        const _: () = assert!(SHARDS == 256, "a shard is the first byte of a key");
        usize::from(self.0[0])
    }

    /// As [`Key::text`] wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()?))
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl Revocation {
    /// # Errors
    /// See [`Malformed`].
    pub fn check(&self, now: u64) -> Result<(), Malformed> {
        let mut named = [&self.jti, &self.sid, &self.sub].into_iter().flatten();
        let (Some(_), None) = (named.next(), named.next()) else { return Err(Malformed::NotOne) };
        let names = [&self.jti, &self.sid, &self.sub, &self.iss].into_iter().flatten();
        if !names.into_iter().all(|name| (1..=MAX_NAME_BYTES).contains(&name.len())) {
            return Err(Malformed::Name);
        }
        match self.until {
            until if until <= now => Err(Malformed::Over),
            until if until > LATEST => Err(Malformed::TooLate),
            _ => Ok(()),
        }
    }

    pub(super) fn key(&self) -> Key {
        let (claim, value) = match (&self.jti, &self.sid, &self.sub) {
            (Some(jti), _, _) => (Claim::Jti, jti.as_ref()),
            (None, Some(sid), _) => (Claim::Sid, sid.as_ref()),
            (None, None, sub) => (Claim::Sub, sub.as_deref().unwrap_or_default()),
        };
        Key::of(claim, value, self.iss.as_deref())
    }

    pub(super) fn name_bytes(&self) -> usize {
        [&self.jti, &self.sid, &self.sub, &self.iss].into_iter().flatten().map(|name| name.len()).sum()
    }
}
