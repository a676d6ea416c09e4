//! The filters of one session.

mod migrate;
mod open;
mod pass;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    Admission, Closer, Identity, Migration, NotAdmitted, OpeningRequest, Outcome, Reason, Run, finish,
    interest::Interest, live::ChainSpec, member::Member, pool::Instances,
};
use crate::message::{CloseFrame, Direction, Kind, Message};
use pass::{Pass, Travel};

/// Upstreams that the messages of one connection may be routed to.
const ROUTED_UPSTREAMS: usize = 4;

/// The filters of one session. Cloning shares it.
#[derive(Clone)]
pub struct Chain {
    inner: Rc<Inner>,
}

struct Inner {
    instances: Rc<Instances>,
    request: Rc<OpeningRequest>,
    spec: Arc<ChainSpec>,
    members: Vec<Rc<Member>>,
    /// The connection ended, or went on with another chain.
    over: Cell<bool>,
    routed: Rc<Routed>,
    /// A newer chain to which the session did not move: it is not tried again.
    declined: RefCell<Option<Arc<ChainSpec>>>,
}

impl Chain {
    /// Asks every filter in order whether the connection may open. Dropping the future is safe at any time: calls that
    /// have begun are finished in the background, and what was admitted is released.
    ///
    /// # Errors
    /// The first filter that refuses or fails; those that had admitted it hear `on-close`.
    pub async fn open(
        instances: Rc<Instances>,
        spec: Arc<ChainSpec>,
        request: Rc<OpeningRequest>,
    ) -> Result<(Self, Admission), NotAdmitted> {
        FinishedAnyway(Some(Box::pin(open::open(instances, spec, request)))).await
    }

    /// Why a filter last decided as it did, if one has said so.
    #[must_use]
    pub fn last_reason(&self) -> Option<Reason> {
        self.inner.request.last_reason.get()
    }

    /// The chain it was made from.
    #[must_use]
    pub fn spec(&self) -> &Arc<ChainSpec> {
        &self.inner.spec
    }

    /// Is there nothing to do for this session where `live` is its route's chain: does it have it, or did it decline to
    /// move to it? Cheap enough to ask before each message.
    #[must_use]
    pub fn is_settled(&self, live: &Arc<ChainSpec>) -> bool {
        Arc::ptr_eq(&self.inner.spec, live)
            || self.inner.declined.borrow().as_ref().is_some_and(|declined| Arc::ptr_eq(declined, live))
    }

    /// Is an instance to be replaced in which one of the filters has its session? Then a migration to the chain's own
    /// [`Chain::spec`] moves that to another. Cheap enough to ask in each turn.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.inner.members.iter().any(|member| member.is_worn())
    }

    /// Does any filter want such messages? Where none does, the message passes without a run.
    #[must_use]
    pub fn wants(&self, direction: Direction, kind: Kind) -> bool {
        self.inner.members.iter().any(|member| member.hears(direction, kind) || member.is_shadowed(direction, kind))
    }

    /// Does any filter want a message of a topic, as such or as a message to the client?
    #[must_use]
    pub fn wants_delivery(&self, kind: Kind) -> bool {
        let wants = |interest: Interest| interest.delivery(kind) || interest.message(Direction::ToClient, kind);
        self.inner.members.iter().any(|member| wants(member.interest()))
    }

    /// A relayed message, in its direction's order.
    #[must_use]
    pub fn on_message(&self, direction: Direction, message: Message) -> Run<Outcome> {
        let inner = self.inner.clone();
        Box::pin(async move { Pass::new(&inner).message(&mut Travel::whole(&inner, direction, message)).await })
    }

    /// A message of a topic: `on-delivery` of the filters that asked for it, then the to-client chain.
    #[must_use]
    pub fn on_delivery(&self, topic: &str, message: Message) -> Run<Outcome> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        Box::pin(async move { Pass::new(&inner).delivery(&topic, message).await })
    }

    /// When the next `on-tick` is due.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.inner.members.iter().filter_map(|member| member.next_tick()).min()
    }

    /// Every `on-tick` that is due. What it sends are pushes.
    #[must_use]
    pub fn on_tick(&self, now: Instant) -> Run<Outcome> {
        let inner = self.inner.clone();
        Box::pin(async move { Pass::new(&inner).tick(now).await })
    }

    /// `on-identity` of every filter that asked for it, after the client's token was refreshed. What it sends are pushes.
    #[must_use]
    pub fn on_identity(&self, identity: Rc<Identity>) -> Run<Outcome> {
        let inner = self.inner.clone();
        inner.request.identity.replace(Some(identity.clone()));
        Box::pin(async move { Pass::new(&inner).identity(&identity).await })
    }

    /// Moves the session to a newer chain: `save` all, `resume` all. On any failure the old chain stays as it was.
    /// Nothing else may run on this chain meanwhile. Filters whose generation did not change keep their session.
    ///
    /// Where the answer is [`Migration::Kept`], the session stays with this chain until there is a newer one than `spec`:
    /// see [`Chain::is_settled`].
    #[must_use]
    pub fn migrate(&self, spec: Arc<ChainSpec>) -> Run<Migration> {
        Box::pin(migrate::migrate(self.inner.clone(), spec))
    }

    /// `on-close` of every filter that asked for it, then releases what the instances hold for the session.
    #[must_use]
    pub fn close(self, by: Closer, frame: CloseFrame) -> Run<()> {
        self.inner.over.set(true);
        Box::pin(async move {
            for member in &self.inner.members {
                member.close(by, &frame).await;
            }
        })
    }
}

impl Inner {
    fn new(
        instances: Rc<Instances>,
        request: Rc<OpeningRequest>,
        spec: Arc<ChainSpec>,
        members: Vec<Rc<Member>>,
        routed: Rc<Routed>,
    ) -> Rc<Self> {
        Rc::new(Self {
            instances,
            request,
            spec,
            members,
            over: Cell::new(false),
            routed,
            declined: RefCell::default(),
        })
    }
}

/// The upstreams that filters have routed messages of one connection to. It outlives the chain.
#[derive(Default)]
struct Routed(RefCell<Vec<Arc<str>>>);

impl Routed {
    /// The name, shared; `None` where it would be one too many.
    fn name(&self, upstream: &str) -> Option<Arc<str>> {
        let mut names = self.0.borrow_mut();
        if let Some(known) = names.iter().find(|known| ***known == *upstream) {
            return Some(known.clone());
        }
        if names.len() == ROUTED_UPSTREAMS {
            return None;
        }
        let name: Arc<str> = upstream.into();
        names.push(name.clone());
        Some(name)
    }
}

/// Hands the future to the worker if it is dropped before its end.
struct FinishedAnyway<T: 'static>(Option<Run<T>>);

impl<T> Future for FinishedAnyway<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(run) = &mut self.0 else { return Poll::Pending };
        let polled = run.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T> Drop for FinishedAnyway<T> {
    fn drop(&mut self) {
        // Without a runtime, which then is being shut down, instances go anyway.
        if let Some(run) = self.0.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            finish(run);
        }
    }
}
