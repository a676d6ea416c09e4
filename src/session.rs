//! One open connection: a single task on one worker owns both sockets and the chain for the connection's whole life.
//!
//! In each turn every pump takes what its leg has, at most 64 messages or 64 KiB; each message goes through the chain in
//! place; then each leg is flushed once. No lock and no channel lies between reading a message and writing it.

mod scan;
mod wire;
mod queue;
mod leg;
mod far;
mod branch;
mod pump;
mod deadline;
mod filters;
mod mail;
mod closing;
mod end;
mod registry;
mod tally;
mod token;

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::time::Instant;

use self::{
    branch::Branches,
    closing::Closing,
    deadline::{Due, LegClock, Timer},
    far::Far,
    filters::Filters,
    leg::Leg,
    mail::Inbox,
    pump::{Pump, Pumped},
    queue::{AtMark, Outgoing},
    tally::Tally,
};
pub use self::{
    branch::Dialling,
    end::SessionEnd,
    registry::{Entry, Registry, Remote, Retired},
    scan::Violation,
    token::{Bearer, Token},
};
use crate::{
    config::SessionLimits,
    filter::{Chain, Instances, Reason},
    limit::MessageRates,
    message::{Direction, Message},
    route::Route,
    topic::Postbox,
    transport::Transport,
    upstream::Established,
};

/// A connection without a message for this long gives buffers back.
const QUIET: std::time::Duration = std::time::Duration::from_secs(10);

/// What the handshake hands over.
pub struct Opened {
    /// The route that was matched.
    pub route: Arc<Route>,
    /// The client's socket, behind its 101.
    pub client: Transport,
    /// What the client sent ahead.
    pub client_read_ahead: Bytes,
    /// The upstream's socket; `None`: messages are echoed, or end at the filters.
    pub upstream: Option<Established>,
    /// How upstreams are dialled to which filters `route` messages; `None` where no filter may.
    pub dialling: Option<Box<Dialling>>,
    /// The filters that admitted the connection, and where newer ones are found; `None` where the route has none.
    pub chain: Option<(Chain, Rc<Instances>)>,
    /// Who the client is; `None` on a route without `auth`.
    pub bearer: Option<Bearer>,
    /// What the client's messages are measured with; `None` on a route without such limits.
    pub rates: Option<Box<MessageRates>>,
    /// Where mail for the connection waits; `None` where the route has no filters.
    pub postbox: Option<Postbox>,
    /// The place among the worker's sessions.
    pub entry: Entry,
    /// The worker's sessions.
    pub registry: Rc<Registry>,
}

/// How a session went, for the access log.
#[derive(Debug)]
pub struct Summary {
    /// Why it ended.
    pub end: SessionEnd,
    /// From 101 to the end.
    pub duration: std::time::Duration,
    /// Why a filter last decided as it did, if one has said so.
    pub filter_reason: Option<Reason>,
    /// Messages from the client.
    pub messages_to_upstream: u64,
    /// Messages from the upstream.
    pub messages_to_client: u64,
}

/// Relays until both sides have closed.
pub async fn run(opened: Opened) -> Summary {
    let mut session = Session::new(opened);
    let _counted = Counted::new(&session.route.metrics.connections);
    session.route.metrics.connections_total.inc();
    let end = poll_fn(|context| session.poll(context)).await;
    session.summarize(end)
}

/// One of the open connections, also where a panic ends it.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

enum Phase {
    Open,
    Closing(Closing),
}

/// What a message meets when the queue in front of it is full.
#[derive(Clone, Copy)]
enum Arrival {
    /// Read from the other leg: `overflow`.
    Relayed,
    /// From nowhere else than a filter: `push_overflow`.
    Pushed,
}

struct Session {
    route: Arc<Route>,
    limits: SessionLimits,
    client: Leg,
    far: Far,
    branches: Branches,
    to_upstream: Pump,
    to_client: Pump,
    filters: Filters,
    /// Boxed: many routes have none.
    token: Option<Box<Token>>,
    rates: Option<Box<MessageRates>>,
    inbox: Inbox,
    client_clock: LegClock,
    upstream_clock: LegClock,
    opened_at: Instant,
    now: Instant,
    last_message_at: Instant,
    control_frames_since: Instant,
    timer: Timer,
    phase: Phase,
    tally: Tally,
    entry: Entry,
}

impl Session {
    fn new(opened: Opened) -> Self {
        let now = Instant::now();
        let limits = opened.route.limits;
        Self {
            client: Leg::to_client(opened.client, opened.client_read_ahead, limits.client_max_payload_bytes),
            far: Far::new(opened.upstream, &opened.route.target, &limits),
            branches: Branches::new(opened.dialling),
            to_upstream: Pump::default(),
            to_client: Pump::default(),
            filters: Filters::new(opened.chain, opened.registry),
            token: opened.bearer.map(|bearer| Box::new(Token::new(bearer, now))),
            rates: opened.rates,
            inbox: Inbox::new(opened.postbox, opened.entry.key()),
            client_clock: LegClock::new(now, &limits),
            upstream_clock: LegClock::new(now, &limits),
            opened_at: now,
            now,
            last_message_at: now,
            control_frames_since: now,
            timer: Timer::new(now),
            phase: Phase::Open,
            tally: Tally::new(&opened.route.metrics),
            entry: opened.entry,
            route: opened.route,
            limits,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<SessionEnd> {
        self.now = Instant::now();
        self.entry.control.register(context);
        if let Some(end) = self.entry.control.ordered_end() {
            self.begin_end(end);
        }
        if self.entry.control.leave_ordered() {
            self.end_now();
        }
        self.follow_authenticator();
        if matches!(self.phase, Phase::Open)
            && let Some(token) = &mut self.token
            && token.is_revoked()
        {
            let code = token.expiry_code();
            self.begin_end(SessionEnd::TokenRevoked { code });
        }
        if matches!(self.phase, Phase::Open) {
            self.turn(context);
        }
        let ended = if matches!(self.phase, Phase::Closing(_)) { self.poll_closing(context) } else { Poll::Pending };
        let to_upstream = self.far.queued_bytes() + self.branches.queued_bytes();
        self.tally.publish(&self.route.metrics, self.client.queued_bytes() + to_upstream);
        ended
    }

    /// One turn of an open session: timers, filters, both pumps, both flushes.
    fn turn(&mut self, context: &mut Context<'_>) {
        if self.timer.is_due(self.now) {
            self.check_deadlines();
        }
        #[cfg(test)]
        assert!(
            self.route.name != "panics" || self.tally.messages(Direction::ToUpstream) == 0,
            "a test wants this panic"
        );
        self.to_upstream.start_turn();
        self.to_client.start_turn();
        self.inbox.start_turn();
        let (up, down) = loop {
            self.follow_filters(context);
            let up = self.pump(Direction::ToUpstream, context);
            let down = self.pump(Direction::ToClient, context);
            let opened = self.poll_branches(context);
            self.poll_refresh(context);
            self.flush(context);
            if !matches!(self.phase, Phase::Open) {
                return;
            }
            let up_free = up == Pumped::Paused && !self.is_paused(Direction::ToUpstream);
            let down_free = down == Pumped::Paused && !self.is_paused(Direction::ToClient);
            if !up_free && !down_free && !opened && !self.can_move() && !self.filters.has_news() {
                break (up, down);
            }
        };
        if up == Pumped::Spent || down == Pumped::Spent || (down != Pumped::Held && self.inbox.is_left()) {
            context.waker().wake_by_ref();
        }
        self.inbox.publish();
        self.stamp(up, down);
        self.arm_timer(context);
    }

    /// Writes what waits on both legs. A peer that takes nothing any more shows when its leg is read to the end.
    fn flush(&mut self, context: &mut Context<'_>) {
        let blocked = self.client.poll_flush(context).is_pending();
        self.client_clock.flushed(self.now, &self.client, blocked);
        if let Far::Upstream { leg, .. } = &mut self.far {
            let blocked = leg.poll_flush(context).is_pending();
            self.upstream_clock.flushed(self.now, leg, blocked);
        }
        self.branches.flush(self.now, context);
    }

    /// Stamps the clocks after a turn.
    fn stamp(&mut self, up: Pumped, down: Pumped) {
        if up.is_held() {
            self.client_clock.unread(self.now, &self.limits);
        }
        if down.is_held() {
            self.upstream_clock.unread(self.now, &self.limits);
            self.branches.unread(self.now, &self.limits);
        }
        if self.to_upstream.moved() || self.to_client.moved() || self.inbox.moved() {
            self.last_message_at = self.now;
        }
        if self.now - self.control_frames_since >= std::time::Duration::from_secs(1) {
            self.control_frames_since = self.now;
            self.client.forgive_control_frames();
            self.upstream_legs().for_each(Leg::forgive_control_frames);
        }
    }

    fn check_deadlines(&mut self) {
        match self.client_clock.due(self.now, &self.client, &self.limits) {
            Due::Nothing => {}
            Due::Ping => self.client.ping(),
            Due::PongTimeout => self.begin_end(SessionEnd::ClientPongTimeout),
            Due::SendTimeout => self.begin_end(SessionEnd::ClientSendTimeout),
        }
        if let Far::Upstream { leg, .. } = &mut self.far {
            match self.upstream_clock.due(self.now, leg, &self.limits) {
                Due::Nothing => {}
                Due::Ping => leg.ping(),
                Due::PongTimeout => self.begin_end(SessionEnd::UpstreamPongTimeout),
                Due::SendTimeout => self.begin_end(SessionEnd::UpstreamSendTimeout),
            }
        }
        if let Some(upstream) = self.branches.check_deadlines(self.now, &self.limits) {
            self.begin_end(SessionEnd::RoutedLost { upstream });
        }
        if let Some(token) = &mut self.token
            && token.is_over(self.now)
        {
            let code = token.expiry_code();
            self.begin_end(SessionEnd::TokenExpired { code });
        }
        if self.limits.idle_timeout.is_some_and(|idle| self.last_message_at + idle <= self.now) {
            self.begin_end(SessionEnd::IdleTimeout);
        }
        if self.limits.max_connection_duration.is_some_and(|age| self.opened_at + age <= self.now) {
            self.begin_end(SessionEnd::MaxDuration);
        }
        if self.now - self.last_message_at >= QUIET {
            self.client.shed_buffers();
            self.upstream_legs().for_each(Leg::shed_buffers);
        }
    }

    /// Moves the timer to the earliest deadline. One that is set too early does no harm: it is looked at again then.
    fn arm_timer(&mut self, context: &mut Context<'_>) {
        let upstream = match &self.far {
            Far::Upstream { .. } => self.upstream_clock.next(&self.limits),
            Far::Echo(_) | Far::Filters => None,
        };
        let next = [
            self.client_clock.next(&self.limits),
            upstream,
            self.branches.next_deadline(&self.limits),
            self.limits.idle_timeout.map(|idle| self.last_message_at + idle),
            self.limits.max_connection_duration.map(|age| self.opened_at + age),
            self.filters.next_tick(),
            self.token.as_ref().and_then(|token| token.next()),
            self.throttled_until(),
        ];
        self.timer.arm(next.into_iter().flatten().min(), self.now, context);
    }

    /// Puts a message on the queue of the leg that its direction points to.
    fn send(&mut self, direction: Direction, message: Message, arrival: Arrival) {
        let mark = self.limits.queue_max_bytes;
        let at_mark = match arrival {
            Arrival::Relayed => AtMark::from(self.limits.overflow),
            Arrival::Pushed => AtMark::from(self.limits.push_overflow),
        };
        let has_room = match (direction, arrival) {
            (Direction::ToUpstream, _) => at_mark.make_room(&mut self.far, mark),
            (Direction::ToClient, Arrival::Relayed) => at_mark.make_room(&mut self.client, mark),
            (Direction::ToClient, Arrival::Pushed) => {
                at_mark.make_room(&mut Pushes { client: &mut self.client, inbox: &self.inbox }, mark)
            }
        };
        if !has_room {
            return self.begin_end(match direction {
                Direction::ToUpstream => SessionEnd::UpstreamOverflow,
                Direction::ToClient => SessionEnd::ClientOverflow,
            });
        }
        match (direction, arrival) {
            (Direction::ToUpstream, _) => self.far.send(message),
            (Direction::ToClient, Arrival::Relayed) => self.client.send(message),
            (Direction::ToClient, Arrival::Pushed) => self.client.push(message),
        }
    }

    fn queued_bytes(&self, direction: Direction) -> usize {
        match direction {
            Direction::ToUpstream => self.far.queued_bytes(),
            Direction::ToClient => self.client.queued_bytes(),
        }
    }

    /// Releases what the session holds and says how it went. Calls into filters that are still under way are polled to
    /// their end by the worker.
    fn summarize(mut self, end: SessionEnd) -> Summary {
        let metrics = &self.route.metrics;
        let duration = self.now - self.opened_at;
        let frame = end.frame();
        metrics.connection_duration_seconds.observe(duration.as_secs_f64());
        metrics.closed(frame.code_or_1005(), end.by());
        self.tally.publish(metrics, 0);
        let runs = [self.to_upstream.take_run(), self.to_client.take_run()];
        let filter_reason = self.filters.last_reason();
        self.filters.release(runs, end.closer(), frame);
        Summary {
            end,
            duration,
            filter_reason,
            messages_to_upstream: self.tally.messages(Direction::ToUpstream),
            messages_to_client: self.tally.messages(Direction::ToClient),
        }
    }
}

/// A client's queue for what is pushed: what was relayed is not dropped for it.
struct Pushes<'a> {
    client: &'a mut Leg,
    inbox: &'a Inbox,
}

impl Outgoing for Pushes<'_> {
    fn queued_bytes(&self) -> usize {
        self.client.queued_bytes()
    }

    fn drop_oldest(&mut self) -> bool {
        let dropped = self.client.drop_oldest_push();
        self.inbox.discarded(dropped);
        dropped
    }
}
