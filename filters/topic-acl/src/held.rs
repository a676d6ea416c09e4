//! The beginnings of packets whose rest has not come yet.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes that all connections of an instance hold together: a quarter of its default memory. Many clients that each
/// send the beginning of a packet must not end an instance that serves others.
pub(crate) const MAX_HELD_BYTES_PER_INSTANCE: usize = 16 << 20;

thread_local! {
    /// What the connections of this instance hold. An instance has one thread.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Why more cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The packet is larger than the configuration allows.
    Packet,
    /// The other connections hold too much.
    Instance,
}

/// Bytes that count for the instance as long as they live.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<u8>);

impl Held {
    /// Takes what is held, to be looked at together with what came.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        HELD_BYTES.set(HELD_BYTES.get().saturating_sub(self.0.len()));
        std::mem::take(&mut self.0)
    }

    /// Holds these and no others.
    pub(crate) fn keep(&mut self, bytes: &[u8], max_packet_bytes: usize) -> Result<(), Full> {
        self.take();
        if bytes.len() > max_packet_bytes {
            return Err(Full::Packet);
        }
        if HELD_BYTES.get() + bytes.len() > MAX_HELD_BYTES_PER_INSTANCE {
            return Err(Full::Instance);
        }
        HELD_BYTES.set(HELD_BYTES.get() + bytes.len());
        self.0 = bytes.to_vec();
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.take();
    }
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut held = Self::default();
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        match held.keep(&bytes, usize::MAX) {
            Ok(()) => Ok(held),
            Err(_) => Err(serde::de::Error::custom("the instance holds too much")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_connections_hold_is_bounded_and_given_back() {
        let mut first = Held::default();
        let mut second = Held::default();
        first.keep(&vec![0; MAX_HELD_BYTES_PER_INSTANCE - 1], usize::MAX).unwrap();
        assert_eq!(second.keep(b"ab", 2), Err(Full::Instance));
        assert_eq!(second.keep(b"abc", 2), Err(Full::Packet));
        assert_eq!(second.keep(b"a", 2), Ok(()));
        assert_eq!(second.take(), b"a");
        drop(first);
        assert_eq!(HELD_BYTES.get(), 0);
    }
}
