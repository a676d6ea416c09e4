//! Clients whose messages end instances: each such fault costs everybody on the instance its session there, so a client
//! that goes on is refused for a while. One entry an address, shared by the workers.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Faults count together that are no further apart.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// For how long a client is refused at first; doubled each time.
const FIRST_REFUSAL: Duration = Duration::from_secs(2);
const LONGEST_REFUSAL: Duration = Duration::from_secs(300);
/// A client is forgotten that long after its last fault, or refusal. Until then one fault is enough to be refused again.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Addresses that are remembered, of one generation; beyond them the one that was quiet for longest is forgotten.
const MOST_CLIENTS: usize = 1024;

/// What stands for one client: an IPv4 address, or the 64 bits of an IPv6 address that one subscriber has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum ClientKey {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The clients of one generation that caused faults of late.
pub(super) struct Clients {
    /// `max_client_faults`
    max_faults: Option<usize>,
    /// False where nobody is known: then no handshake looks further.
    any: AtomicBool,
    known: Mutex<HashMap<ClientKey, Offence>>,
}

struct Offence {
    /// Within the window.
    faults: usize,
    since: Instant,
    last: Instant,
    refused_until: Option<Instant>,
    refusals: u32,
}

impl Clients {
    pub(super) fn new(max_faults: Option<usize>) -> Self {
        Self { max_faults, any: AtomicBool::new(false), known: Mutex::default() }
    }

    /// Does anybody look at who causes faults?
    pub(super) fn is_on(&self) -> bool {
        self.max_faults.is_some()
    }

    /// For how long the client is still refused.
    pub(super) fn refused_for(&self, client: ClientKey, now: Instant) -> Option<Duration> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let until = self.lock().get(&client)?.refused_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// A message of the client, or its opening request, ended an instance. Answers for how long it is refused, where this
    /// was one too many.
    pub(super) fn fault(&self, client: ClientKey, now: Instant) -> Option<Duration> {
        let max_faults = self.max_faults?;
        let mut known = self.lock();
        self.any.store(true, Ordering::Relaxed);
        make_place(&mut known, client, now);
        let offence = known.entry(client).or_insert(Offence {
            faults: 0,
            since: now,
            last: now,
            refused_until: None,
            refusals: 0,
        });
        if offence.is_forgotten(now) {
            offence.refusals = 0;
        }
        if now.duration_since(offence.since) > WINDOW {
            (offence.since, offence.faults) = (now, 0);
        }
        offence.last = now;
        offence.faults += 1;
        if offence.faults < max_faults && offence.refusals == 0 {
            return None;
        }
        let time = FIRST_REFUSAL.saturating_mul(1 << offence.refusals.min(16)).min(LONGEST_REFUSAL);
        // What a client has under way when it is refused is not another offence.
        if offence.refused_until.is_none_or(|until| until <= now) {
            offence.refused_until = Some(now + time);
            offence.refusals += 1;
        }
        offence.refused_until.map(|until| until.saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, Offence>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offence {
    fn quiet_since(&self) -> Instant {
        self.refused_until.map_or(self.last, |until| until.max(self.last))
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.quiet_since()) > FORGET_AFTER
    }
}

fn make_place(known: &mut HashMap<ClientKey, Offence>, client: ClientKey, now: Instant) {
    if known.len() < MOST_CLIENTS || known.contains_key(&client) {
        return;
    }
    known.retain(|_, offence| !offence.is_forgotten(now));
    let quietest = known.iter().min_by_key(|(_, offence)| offence.quiet_since()).map(|(client, _)| *client);
    if let Some(quietest) = quietest.filter(|_| known.len() >= MOST_CLIENTS) {
        known.remove(&quietest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_ipv6_client_is_its_first_64_bits() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), client(7));
        assert_ne!(client(7), client(8));
    }

    #[test]
    fn a_client_that_goes_on_is_refused_for_longer_each_time() {
        let (clients, start) = (Clients::new(Some(3)), Instant::now());
        assert_eq!(clients.refused_for(client(1), start), None);
        assert_eq!(clients.fault(client(1), start), None);
        assert_eq!(clients.fault(client(1), start), None);
        assert_eq!(clients.fault(client(1), start), Some(seconds(2)));
        assert_eq!(clients.refused_for(client(1), start + seconds(1)), Some(seconds(1)));
        assert_eq!(clients.refused_for(client(2), start), None, "others are not concerned");
        // A connection that was open already does not make it longer.
        assert_eq!(clients.fault(client(1), start + seconds(1)), Some(seconds(1)));
        let later = start + seconds(30);
        assert_eq!(clients.refused_for(client(1), later), None);
        assert_eq!(clients.fault(client(1), later), Some(seconds(4)), "one more is enough");
        assert_eq!(clients.fault(client(1), later + seconds(5)), Some(seconds(8)));
        let much_later = later + seconds(700);
        assert_eq!(clients.fault(client(1), much_later), None, "it was forgotten");
    }

    #[test]
    fn faults_that_are_far_apart_do_not_add_up() {
        let (clients, start) = (Clients::new(Some(2)), Instant::now());
        for n in 0..10 {
            assert_eq!(clients.fault(client(1), start + seconds(11 * n)), None);
        }
    }

    #[test]
    fn the_refusal_has_an_end() {
        let (clients, mut now) = (Clients::new(Some(1)), Instant::now());
        for _ in 0..100 {
            let refused = clients.fault(client(1), now).unwrap();
            assert!(refused <= LONGEST_REFUSAL);
            now += refused;
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let (clients, start) = (Clients::new(Some(1)), Instant::now());
        for n in 0..5_000_u32 {
            clients.fault(IpAddr::from(n.to_be_bytes()).into(), start + Duration::from_millis(n.into()));
        }
        assert_eq!(clients.lock().len(), MOST_CLIENTS);
        let newest = IpAddr::from(4_999_u32.to_be_bytes()).into();
        assert!(clients.refused_for(newest, start + seconds(5)).is_some());
    }

    #[test]
    fn off_is_off() {
        let clients = Clients::new(None);
        for _ in 0..100 {
            assert_eq!(clients.fault(client(1), Instant::now()), None);
        }
        assert_eq!(clients.refused_for(client(1), Instant::now()), None);
    }
}
