//! Who is counted together.

use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::identity::Identity;

/// Sixteen bytes, whoever it is: a long name takes no more memory than a short one.
pub(super) type Key = [u8; 16];

/// Where all are counted together.
pub(super) const EVERYBODY: Key = [0; 16];

/// An address of IPv4, or the /64 that one of IPv6 lies in: whoever has one address of it has all.
pub(super) fn address(address: IpAddr) -> Key {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).octets(),
    }
}

/// The subject of a token, as its issuer knows it. A token without one counts as its address.
pub(super) fn user(identity: &Identity, client: IpAddr) -> Key {
    let Some(subject) = &identity.subject else { return address(client) };
    let issuer = identity.issuer.as_deref().unwrap_or_default();
    let length = (issuer.len() as u64).to_be_bytes();
    let digest = Sha256::new().chain_update(length).chain_update(issuer).chain_update(subject).finalize();
    first_16(&digest)
}

/// One of 65,536 keys that stand for all: where there are too many to tell apart.
pub(super) fn folded(key: &Key) -> Key {
    let digest = Sha256::digest(key);
    let mut folded = [0xff; 16];
    folded[..2].copy_from_slice(&digest[..2]);
    folded
}

fn first_16(digest: &[u8]) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}
