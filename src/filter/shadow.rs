//! A shadow: another generation that is asked what the serving one was asked, after it answered, and never obeyed.
//!
//! Each session that is shadowed has a task of its own on the same worker and a bounded list of what the shadow has not
//! seen yet. The session only adds to the list. A shadow that is slow, traps or spins loses comparisons; it cannot hold
//! back a message.

mod compare;
mod record;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Closer, OpeningRequest,
    bindings::{exports::wsgate::filter::handler::ResumeCause, wsgate::filter::types::Verdict},
    control::Control,
    fault::{Fault, Occasion},
    interest::Interest,
    member::{Member, NoAnswer, Opened, Resumed},
    pool::Pool,
    tally::Hook,
};
use crate::message::{CloseFrame, Direction, Kind, Message};
use compare::Answer;
use record::Compared;

pub(super) use record::ShadowTally;
pub use record::{ShadowDifference, ShadowVerdict};

/// Messages of one session that its shadow has not seen; further ones are skipped. Room for two turns of both pumps.
const WAITING_MESSAGES: usize = 256;
/// Bytes of these, with the answers that they are compared with; one message is taken below the mark whatever its size.
const WAITING_BYTES: usize = 1 << 20;
/// Bytes of all sessions of a filter, in the same way.
const WAITING_BYTES_OF_ALL: usize = 32 << 20;
/// Sessions of a filter that are shadowed at once, in the process; further ones are skipped. Those that ended count until
/// their shadow has.
const SESSIONS: usize = 4096;
/// After its session ended, a shadow sees what waits for so long.
const LINGER: Duration = Duration::from_secs(1);

/// The shadow of one session. Dropping it ends the shadow without a word to it.
pub(super) struct Shadow(Rc<Line>);

/// What passes between a session and its shadow's task.
struct Line {
    control: Arc<Control>,
    waiting: RefCell<VecDeque<Waiting>>,
    waiting_bytes: Cell<usize>,
    /// Messages that the shadow will never see: what it says later may come of that.
    missed: Cell<u64>,
    /// What it wants to be called for, once that is known.
    interest: Cell<Option<Interest>>,
    /// A newer generation to move to.
    newer: RefCell<Option<Rc<Pool>>>,
    /// How the session ended, if it did.
    end: RefCell<Option<End>>,
    /// There is no shadow session any more.
    over: Cell<bool>,
    changed: Notify,
}

struct Waiting {
    direction: Direction,
    message: Message,
    served: Answer,
    /// Was the serving filter asked about it?
    asked: bool,
    bytes: usize,
}

#[derive(Clone)]
struct End {
    at: Instant,
    /// `None`: the shadow alone ends.
    close: Option<(Closer, CloseFrame)>,
}

impl Shadow {
    /// Asks this generation about a connection that the serving one was asked about. `None` where too many are shadowed.
    pub(super) fn start(pool: Rc<Pool>, request: Rc<OpeningRequest>, served: &Opened) -> Option<Self> {
        let control = pool.generation().control().clone();
        let Some(place) = control.shadow().enter(SESSIONS) else {
            control.shadow().count(Compared::Skipped);
            return None;
        };
        let line = Rc::new(Line {
            control,
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            missed: Cell::new(0),
            interest: Cell::new(None),
            newer: RefCell::default(),
            end: RefCell::default(),
            over: Cell::new(false),
            changed: Notify::new(),
        });
        let task = Task { line: line.clone(), request };
        let served = Answer::of_open(served);
        tokio::task::spawn_local(async move {
            task.run(pool, served).await;
            drop(place);
        });
        Some(Self(line))
    }

    /// Would the shadow be asked about such a message?
    pub(super) fn hears(&self, direction: Direction, kind: Kind) -> bool {
        !self.0.over.get() && self.0.interest.get().is_none_or(|interest| interest.message(direction, kind))
    }

    /// A message that the serving filter answered so, or was not asked about.
    pub(super) fn message(
        &self,
        direction: Direction,
        message: &Message,
        served: Option<&Result<Result<Verdict, String>, NoAnswer>>,
    ) {
        if self.0.over.get() || (served.is_none() && !self.hears(direction, message.kind())) {
            return;
        }
        let asked = served.is_some();
        let Some(served) = Answer::of_message(direction, message, served) else { return };
        let bytes = message.len() + served.len();
        let tally = self.0.control.shadow();
        let own = self.0.waiting_bytes.get();
        let full = self.0.waiting.borrow().len() >= WAITING_MESSAGES || own >= WAITING_BYTES;
        if full || !tally.hold(bytes, WAITING_BYTES_OF_ALL) {
            self.0.missed.update(|missed| missed + 1);
            tally.count(Compared::Skipped);
            return;
        }
        self.0.waiting_bytes.set(own + bytes);
        self.0.waiting.borrow_mut().push_back(Waiting { direction, message: message.clone(), served, asked, bytes });
        self.0.changed.notify_one();
    }

    /// There is a newer generation: what the shadow keeps for the session moves to it.
    pub(super) fn follow(&self, pool: Rc<Pool>) {
        let newer = self.0.newer.borrow().as_ref().map(|newer| newer.generation().serial());
        if newer != Some(pool.generation().serial()) {
            self.0.newer.replace(Some(pool));
            self.0.changed.notify_one();
        }
    }

    /// The session ended: the shadow hears of it too.
    pub(super) fn close(self, by: Closer, frame: CloseFrame) {
        self.0.end(Some((by, frame)));
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

impl Line {
    fn end(&self, close: Option<(Closer, CloseFrame)>) {
        let mut end = self.end.borrow_mut();
        if end.is_none() {
            *end = Some(End { at: Instant::now(), close });
            self.changed.notify_one();
        }
    }

    fn take(&self) -> Option<Waiting> {
        let waiting = self.waiting.borrow_mut().pop_front()?;
        self.waiting_bytes.update(|bytes| bytes - waiting.bytes);
        self.control.shadow().release(waiting.bytes);
        Some(waiting)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.control.shadow().release(self.waiting_bytes.get());
    }
}

/// What to do next.
enum Next {
    Compare(Waiting),
    Move(Rc<Pool>),
    End(End),
}

struct Task {
    line: Rc<Line>,
    request: Rc<OpeningRequest>,
}

impl Task {
    async fn run(self, pool: Rc<Pool>, served: Answer) {
        let Some(mut member) = self.open(pool, &served).await else {
            self.line.over.set(true);
            return;
        };
        loop {
            match self.next().await {
                Next::Compare(waiting) => {
                    self.compare(&member, waiting).await;
                    if member.is_worn() {
                        let pool = member.pool().clone();
                        member = self.moved(member, pool).await;
                    }
                }
                Next::Move(pool) => member = self.moved(member, pool).await,
                Next::End(end) => {
                    self.line.over.set(true);
                    while self.line.take().is_some() {
                        self.tally().count(Compared::Skipped);
                    }
                    match end.close {
                        Some((by, frame)) => member.close(by, &frame).await,
                        None => member.release_moved().await,
                    }
                    return;
                }
            }
        }
    }

    fn tally(&self) -> &ShadowTally {
        self.line.control.shadow()
    }

    /// The session that goes on, where there is one. Nothing else may keep the generation.
    async fn open(&self, pool: Rc<Pool>, served: &Answer) -> Option<Member> {
        let opened = Member::open(pool.clone(), self.request.clone()).await;
        if let Opened::NoRoom(fault) = &opened {
            let occasion = Occasion { hook: Hook::Open, connection: &self.request.connection, last_message: None };
            fault.log(pool.generation(), occasion);
            self.tally().count(Compared::Fault);
            return None;
        }
        self.judge(Hook::Open, None, served, &Answer::of_open(&opened));
        match opened {
            Opened::Admitted(member, _) => {
                self.line.interest.set(Some(member.interest()));
                Some(member)
            }
            Opened::Failed(member, fault) | Opened::Broken(member, fault) => {
                member.log(&fault, Hook::Open);
                Some(member)
            }
            Opened::Refused(_) | Opened::NoRoom(_) | Opened::ClientRefused(_) => None,
        }
    }

    async fn next(&self) -> Next {
        loop {
            let newer = self.line.newer.take();
            let end = self.line.end.borrow().clone();
            match (newer, end) {
                (_, Some(end)) if end.at.elapsed() >= LINGER => return Next::End(end),
                (Some(pool), None) => return Next::Move(pool),
                (_, end) => match (self.line.take(), end) {
                    (Some(waiting), _) => return Next::Compare(waiting),
                    (None, Some(end)) => return Next::End(end),
                    (None, None) => self.line.changed.notified().await,
                },
            }
        }
    }

    async fn compare(&self, member: &Member, waiting: Waiting) {
        let Waiting { direction, message, served, asked, bytes: _ } = waiting;
        // What failed to open takes the connection over with the first message.
        let heard = self.line.interest.get().is_none_or(|interest| interest.message(direction, message.kind()));
        if !heard && !asked {
            return;
        }
        let answer = if heard { Some(member.on_message(direction, &message).await) } else { None };
        if let Some(Err(NoAnswer::Fault(fault))) = &answer {
            member.log(fault, Hook::OnMessage);
        }
        if self.line.interest.get().is_none() && matches!(answer, Some(Ok(_))) {
            self.line.interest.set(Some(member.interest()));
        }
        if let Some(answer) = Answer::of_message(direction, &message, answer.as_ref()) {
            self.judge(Hook::OnMessage, Some(direction), &served, &answer);
        }
    }

    fn judge(&self, hook: Hook, direction: Option<Direction>, served: &Answer, shadow: &Answer) {
        if shadow.is_fault() {
            self.tally().count(Compared::Fault);
        } else if served.does_the_same(shadow) {
            self.tally().count(Compared::Same);
        } else {
            let difference = ShadowDifference {
                connection: self.request.connection.clone(),
                hook: hook.label(),
                direction: direction.map(Direction::label),
                missed: self.line.missed.get(),
                ..served.difference(shadow)
            };
            self.tally().differ(difference);
        }
    }

    /// As sessions move: any failure keeps what there was.
    async fn moved(&self, member: Member, pool: Rc<Pool>) -> Member {
        if pool.generation().serial() == member.generation().serial() && !member.is_worn() {
            return member;
        }
        let state = match member.save().await {
            Ok(state) => state,
            Err(fault) => return self.stays(member, Some(fault), Hook::Save),
        };
        match Member::resume(pool, self.request.clone(), state, ResumeCause::Reload, None).await {
            Resumed::Member(newer) => {
                member.release_moved().await;
                self.line.interest.set(Some(newer.interest()));
                newer
            }
            Resumed::Rejected(_) => self.stays(member, None, Hook::Resume),
            Resumed::Fault(fault) => self.stays(member, Some(fault), Hook::Resume),
        }
    }

    fn stays(&self, member: Member, fault: Option<Fault>, hook: Hook) -> Member {
        member.stay();
        if let Some(fault) = fault {
            member.log(&fault, hook);
            self.tally().count(Compared::Fault);
        }
        member
    }
}
