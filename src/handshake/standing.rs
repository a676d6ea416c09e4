//! What an open connection was admitted by, so that another configuration can be asked whether it would admit it too.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::IpAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use slab::Slab;
use tokio::time::sleep;

use super::{Context, Current, Handshake, origin::Origin, request::Requested};
use crate::{
    configured::Configured,
    limit::{Places, RouteLimiter},
    route::{Matched, Route},
    session::{Bearer, Remote, Retired},
};

/// So many connections are looked at before the others of the worker go on.
const LOOKS_IN_A_TURN: usize = 256;
/// Connections whose route has changed are closed no more often than this, but then several at once.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

/// What a connection was admitted by.
pub(super) struct Standing {
    latest: RefCell<Latest>,
    /// Did the connection open with filters?
    filtered: bool,
    client: IpAddr,
    host: Box<str>,
    path: Box<str>,
    /// The host and port that its page was compared with.
    asked: (Box<str>, Option<u16>),
    /// `None`: it was not compared.
    origin: Option<Origin>,
}

/// By the configuration that looked last.
struct Latest {
    route: Arc<Route>,
    all: Arc<RouteLimiter>,
    places: Places,
}

/// The connections of a worker.
#[derive(Default)]
pub struct Standings(RefCell<Slab<Rc<Standee>>>);

impl Standings {
    /// Those that were not told to end.
    fn staying(&self) -> Vec<Rc<Standee>> {
        let standees = self.0.borrow();
        standees.iter().map(|(_, standee)| standee).filter(|standee| !standee.remote.is_leaving()).cloned().collect()
    }
}

struct Standee {
    standing: Standing,
    remote: Remote,
}

/// A connection's place among them; leaving happens on drop.
pub(super) struct Entered {
    context: Rc<Context>,
    key: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.context.standings.0.borrow_mut().remove(self.key);
    }
}

/// What became of the open connections of a worker.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Followed {
    /// Those that stay, by the name of the route that they opened on.
    pub kept: BTreeMap<String, usize>,
    /// Those that are closed, and why.
    pub closed: BTreeMap<(String, Retired), usize>,
}

impl Followed {
    /// Adds what became of others.
    pub fn add(&mut self, other: Self) {
        for (route, count) in other.kept {
            *self.kept.entry(route).or_default() += count;
        }
        for (why, count) in other.closed {
            *self.closed.entry(why).or_default() += count;
        }
    }

    fn count(&mut self, route: &str, verdict: Option<Retired>) {
        match verdict {
            None => *self.kept.entry(route.to_owned()).or_default() += 1,
            Some(why) => *self.closed.entry((route.to_owned(), why)).or_default() += 1,
        }
    }
}

impl Standing {
    pub(super) fn new<H>(
        matched: &Matched,
        requested: &Requested,
        origin: Option<Origin>,
        handshake: &Handshake<H>,
        places: Places,
    ) -> Self {
        let (asked_host, asked_port) = handshake.source.asked(requested);
        Self {
            filtered: matched.route.filtered,
            client: handshake.source.client.ip(),
            host: requested.host.as_str().into(),
            path: requested.path.as_str().into(),
            asked: (asked_host.into(), asked_port),
            origin,
            latest: RefCell::new(Latest {
                route: Arc::clone(&matched.route),
                all: Arc::clone(&handshake.current.all),
                places,
            }),
        }
    }
}

impl Standee {
    /// Whether the connection stays under this configuration.
    fn look(&self, configured: &Configured) -> Option<Retired> {
        let Standing { latest, filtered, client: _, host, path, asked, origin } = &self.standing;
        let Some(Matched { route, .. }) = configured.routes.find(host, path) else {
            return Some(Retired::RouteChanged);
        };
        let asked = (&*asked.0, asked.1);
        let refused = origin.as_ref().is_some_and(|origin| !origin.is_taken(&route.allowed_origins, asked));
        if refused || !self.has_token_for(&route, configured) {
            return Some(Retired::NoLongerAllowed);
        }
        // Without filters it would bypass those that there are now.
        let changed = route.name != latest.borrow().route.name || (route.filtered && !filtered);
        changed.then_some(Retired::RouteChanged)
    }

    fn has_token_for(&self, route: &Route, configured: &Configured) -> bool {
        let Some(name) = &route.auth else { return true };
        let (Some(table), Some(bearer)) = (configured.authenticators.get(name), self.remote.bearer()) else {
            return false;
        };
        Arc::ptr_eq(table, &bearer.authenticator) || table.still(&bearer.identity, &bearer.authenticator).is_ok()
    }

    /// The connection stays: from now on it counts against the limits of this configuration, and its token is verified
    /// by its table.
    fn adopt(&self, configured: &Configured) {
        let Some(Matched { route, .. }) = configured.routes.find(&self.standing.host, &self.standing.path) else {
            return;
        };
        let bearer = self.remote.bearer();
        let mut latest = self.standing.latest.borrow_mut();
        let same_limits =
            Arc::ptr_eq(&route.limiter, &latest.route.limiter) && Arc::ptr_eq(&configured.all, &latest.all);
        if !same_limits {
            let identity = bearer.as_ref().map(|bearer| &*bearer.identity);
            latest.places.move_to(&route.limiter, &configured.all, self.standing.client, identity);
        }
        let table = route.auth.as_ref().and_then(|name| configured.authenticators.get(name));
        if let (Some(bearer), Some(table)) = (bearer, table)
            && !Arc::ptr_eq(&bearer.authenticator, table)
        {
            self.remote.authenticate_with(table);
        }
        latest.route = route;
        latest.all = Arc::clone(&configured.all);
    }
}

/// The connection is open. Another configuration may have come during its handshake.
pub(super) fn enter(
    context: &Rc<Context>,
    opened_under: &Rc<Current>,
    standing: Standing,
    remote: Remote,
    bearer: Option<&Bearer>,
) -> Entered {
    if let Some(bearer) = bearer {
        remote.identified(bearer);
    }
    let standee = Rc::new(Standee { standing, remote });
    let current = Rc::clone(&context.current.borrow());
    if !Rc::ptr_eq(&current, opened_under) {
        match standee.look(&current) {
            None => standee.adopt(&current),
            Some(why) => standee.remote.retire(why),
        }
    }
    let key = context.standings.0.borrow_mut().insert(standee);
    Entered { context: Rc::clone(context), key }
}

/// Has the worker go on with another configuration: requests that come now meet it, and open connections stay or are
/// closed by it. Those that it would refuse are told at once, the others over this time.
pub async fn follow(context: &Context, configured: &Arc<Configured>, close_over: Duration) -> Followed {
    let before = context.current.replace(Current::new(Arc::clone(configured)));
    let mut followed = Followed::default();
    let standees = context.standings.staying();
    let nothing_new = before.admits_like(configured);
    let mut leaving = Vec::new();
    for some in standees.chunks(LOOKS_IN_A_TURN) {
        for standee in some {
            let verdict = if nothing_new { None } else { standee.look(configured) };
            followed.count(&standee.standing.latest.borrow().route.name, verdict);
            match verdict {
                None if nothing_new => {}
                None => standee.adopt(configured),
                Some(Retired::NoLongerAllowed) => standee.remote.retire(Retired::NoLongerAllowed),
                Some(Retired::RouteChanged) => leaving.push(Rc::downgrade(standee)),
            }
        }
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_local(close(leaving, close_over));
    followed
}

/// Evenly over this time.
async fn close(leaving: Vec<Weak<Standee>>, over: Duration) {
    let steps = usize::try_from(over.as_millis() / SHORTEST_STEP.as_millis()).unwrap_or(usize::MAX).max(1);
    let in_a_step = leaving.len().div_ceil(steps).max(1);
    let steps = u32::try_from(leaving.len().div_ceil(in_a_step)).unwrap_or(u32::MAX).max(1);
    for some in leaving.chunks(in_a_step) {
        let still_there = some.iter().filter_map(Weak::upgrade);
        still_there.for_each(|standee| standee.remote.retire(Retired::RouteChanged));
        sleep(over / steps).await;
    }
}

/// What [`follow`] would come to.
#[must_use]
pub fn foresee(context: &Context, configured: &Configured) -> Followed {
    let mut followed = Followed::default();
    for standee in context.standings.staying() {
        followed.count(&standee.standing.latest.borrow().route.name, standee.look(configured));
    }
    followed
}
