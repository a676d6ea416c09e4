//! Moving a session to a newer chain, between two messages.

use std::{rc::Rc, sync::Arc};

use super::{Chain, Inner};
use crate::{
    config::OnReload,
    filter::{
        Closer, Migration,
        bindings::{
            exports::wsgate::filter::handler::{Rejection, ResumeCause},
            wsgate::filter::types::CloseInfoResult,
        },
        fault::{Fault, FaultKind, Occasion},
        finish,
        generation::Generation,
        live::{ChainSpec, Slot},
        member::{Member, Resumed},
        room::Ticket,
        tally::Hook,
    },
    message::CloseFrame,
};

/// What a filter hears that is taken out of the chain of an open connection.
const REMOVED: (u16, &str) = (1000, "filter removed");

/// What becomes of one filter of the new chain.
enum Plan {
    /// Its generation did not change, or the session is pinned to the old one.
    Keep(Rc<Member>),
    /// An instance of this generation takes over: another generation, or another instance of its own.
    Replace(Rc<Member>, Arc<Generation>),
    /// It is new in this chain.
    Add(Arc<Generation>),
    /// It is bypassed, and was never asked about the connection.
    Late(Arc<Generation>),
}

impl Plan {
    /// The session is to be resumed in an instance of this generation.
    fn target(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Keep(_) | Self::Late(_) => None,
            Self::Replace(_, to) | Self::Add(to) => Some(to),
        }
    }
}

/// Why the session stays, or ends.
enum Stop {
    Keep,
    Close(CloseFrame, Arc<str>),
}

pub(super) async fn migrate(old: Rc<Inner>, spec: Arc<ChainSpec>) -> Migration {
    let mut leaving = old.members.clone();
    let plans: Vec<_> = spec.slots().iter().map(|slot| plan(slot, &mut leaving)).collect();
    let mut moved = Vec::new();
    // Never to a chain of which a filter is missing: its messages would pass without it.
    let built = if spec.is_complete() { build(&old, &plans, &mut moved).await } else { Err(Stop::Keep) };
    let members = match built {
        Ok(members) => members,
        Err(stop) => {
            old.members.iter().filter(|member| member.is_worn()).for_each(|member| member.stay());
            // Those that took over already are released; the old sessions were never touched.
            release(moved);
            return match stop {
                Stop::Keep => {
                    if !Arc::ptr_eq(&spec, &old.spec) {
                        old.declined.replace(Some(spec));
                    }
                    Migration::Kept
                }
                Stop::Close(frame, filter) => Migration::Close { frame, filter },
            };
        }
    };
    if old.over.get() {
        release(moved);
        return Migration::Kept;
    }
    for ((plan, member), slot) in plans.iter().zip(&members).zip(spec.slots()) {
        if let Plan::Replace(before, _) = plan {
            member.take_shadow_of(before);
        }
        member.follow_shadow(slot.shadow.as_ref(), &old.instances);
    }
    let replaced = plans.into_iter().filter_map(|plan| match plan {
        Plan::Replace(member, _) => Some(member),
        Plan::Keep(_) | Plan::Add(_) | Plan::Late(_) => None,
    });
    release(replaced.collect());
    close_removed(leaving);
    let inner = Inner::new(old.instances.clone(), old.request.clone(), spec, members, old.routed.clone());
    Migration::Moved(Chain { inner })
}

/// Takes the session of the same filter out of those that are left.
fn plan(slot: &Slot, leaving: &mut Vec<Rc<Member>>) -> Plan {
    let Some(at) = leaving.iter().position(|member| member.generation().filter() == slot.main.filter()) else {
        let generation = slot.main.clone();
        return if generation.is_bypassed() { Plan::Late(generation) } else { Plan::Add(generation) };
    };
    let member = leaving.remove(at);
    let own = member.generation().clone();
    let generation = slot.for_session_of(&own);
    if !Arc::ptr_eq(&own, &generation) && own.settings().on_reload == OnReload::Migrate {
        if member.is_late() { Plan::Late(generation) } else { Plan::Replace(member, generation) }
    } else if member.is_worn() {
        Plan::Replace(member, own)
    } else {
        Plan::Keep(member)
    }
}

/// `save` all, then `resume` all. Every new session is also in `moved`.
async fn build(old: &Inner, plans: &[Plan], moved: &mut Vec<Rc<Member>>) -> Result<Vec<Rc<Member>>, Stop> {
    let mut room = room(old, plans).await?;
    let mut states = Vec::with_capacity(plans.len());
    for plan in plans {
        states.push(match plan {
            Plan::Replace(member, _) => member.save().await.map_err(|fault| {
                member.log(&fault, Hook::Save);
                Stop::Keep
            })?,
            Plan::Keep(_) | Plan::Add(_) | Plan::Late(_) => None,
        });
    }
    let mut members = Vec::with_capacity(plans.len());
    for (plan, state) in plans.iter().zip(states) {
        let (generation, cause) = match plan {
            Plan::Keep(member) => {
                members.push(member.clone());
                continue;
            }
            Plan::Late(generation) => {
                members.push(Rc::new(Member::late(old.instances.pool(generation), old.request.clone())));
                continue;
            }
            Plan::Replace(member, to) if Arc::ptr_eq(member.generation(), to) => (to, ResumeCause::Reload),
            Plan::Replace(_, to) if to.is_restored() => (to, ResumeCause::Rollback),
            Plan::Replace(_, to) => (to, ResumeCause::Reload),
            Plan::Add(to) => (to, ResumeCause::Added),
        };
        let pool = match plan {
            Plan::Replace(member, to) if Arc::ptr_eq(member.generation(), to) => member.pool().clone(),
            Plan::Replace(..) | Plan::Add(_) | Plan::Keep(_) | Plan::Late(_) => old.instances.pool(generation),
        };
        let ticket = room.as_mut().filter(|_| generation.is_isolated()).and_then(|room| room.split(generation.maps()));
        let resumed = Member::resume(pool, old.request.clone(), state, cause, ticket).await;
        let member = Rc::new(taken_over(old, generation, resumed)?);
        moved.push(member.clone());
        members.push(member);
    }
    Ok(members)
}

/// Room for every instance of its own that the session needs while it moves, all at once. Others that move give theirs
/// back meanwhile: a part of the process is kept for this.
async fn room(old: &Inner, plans: &[Plan]) -> Result<Option<Ticket>, Stop> {
    let targets = || plans.iter().filter_map(Plan::target).filter(|generation| generation.is_isolated());
    let Some(first) = targets().next() else { return Ok(None) };
    let maps = targets().map(|generation| generation.maps()).sum();
    match first.engine().room.take(maps).await {
        Ok(ticket) => Ok(Some(ticket)),
        Err(error) => {
            let connection = &*old.request.connection;
            tracing::warn!(connection, "a session stays with its filter instances: {error}");
            Err(Stop::Keep)
        }
    }
}

fn taken_over(old: &Inner, generation: &Generation, resumed: Resumed) -> Result<Member, Stop> {
    let connection = &*old.request.connection;
    let occasion = Occasion { hook: Hook::Resume, connection, last_message: None };
    let filter = generation.filter();
    let fault = match resumed {
        Resumed::Member(member) => return Ok(member),
        Resumed::Rejected(Rejection::KeepOld(reason)) => {
            let generation = generation.digest().short();
            tracing::info!(
                filter = &**filter,
                generation,
                connection,
                reason,
                "a session stays with the old generation"
            );
            return Err(Stop::Keep);
        }
        Resumed::Rejected(Rejection::Close(CloseInfoResult { code, reason })) if CloseFrame::is_sendable(code) => {
            return Err(Stop::Close(CloseFrame::new(code, &reason), filter.clone()));
        }
        Resumed::Rejected(Rejection::Close(CloseInfoResult { code, .. })) => {
            // The filter does not want the connection: that holds, whatever its code.
            let fault = Fault::new(FaultKind::Verdict, format!("close code {code} may not be sent"));
            fault.log(generation, occasion);
            return Err(Stop::Close(CloseFrame::new(1011, "filter failed"), filter.clone()));
        }
        Resumed::Fault(fault) => fault,
    };
    fault.log(generation, occasion);
    Err(Stop::Keep)
}

/// Sessions that are no longer needed, without their filter hearing of an end: the connection goes on.
fn release(members: Vec<Rc<Member>>) {
    if !members.is_empty() {
        finish(Box::pin(async move {
            for member in members {
                member.release_moved().await;
            }
        }));
    }
}

fn close_removed(members: Vec<Rc<Member>>) {
    if !members.is_empty() {
        finish(Box::pin(async move {
            let (code, reason) = REMOVED;
            for member in members {
                member.close(Closer::Gateway, &CloseFrame::new(code, reason)).await;
            }
        }));
    }
}
