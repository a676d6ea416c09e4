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
        fault::{Fault, FaultKind},
        finish,
        generation::Generation,
        live::{ChainSpec, Slot},
        member::{Member, Resumed},
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
    /// It takes over from an older generation.
    Replace(Rc<Member>, Arc<Generation>),
    /// It is new in this chain.
    Add(Arc<Generation>),
    /// It is bypassed, and was never asked about the connection.
    Late(Arc<Generation>),
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
    let members = match build(&old, &plans, &mut moved).await {
        Ok(members) => members,
        Err(stop) => {
            // Those that took over already are released; the old sessions were never touched.
            release(moved);
            return match stop {
                Stop::Keep => {
                    old.declined.replace(Some(spec));
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
    let generation = slot.for_session_of(member.generation());
    let same = Arc::ptr_eq(member.generation(), &generation);
    if same || member.generation().settings().on_reload == OnReload::Pin {
        Plan::Keep(member)
    } else if member.is_late() {
        Plan::Late(generation)
    } else {
        Plan::Replace(member, generation)
    }
}

/// `save` all, then `resume` all. Every new session is also in `moved`.
async fn build(old: &Inner, plans: &[Plan], moved: &mut Vec<Rc<Member>>) -> Result<Vec<Rc<Member>>, Stop> {
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
            Plan::Replace(_, generation) if generation.is_restored() => (generation, ResumeCause::Rollback),
            Plan::Replace(_, generation) => (generation, ResumeCause::Reload),
            Plan::Add(generation) => (generation, ResumeCause::Added),
        };
        let resumed = Member::resume(old.instances.pool(generation), old.request.clone(), state, cause).await;
        let member = Rc::new(taken_over(old, generation, resumed)?);
        moved.push(member.clone());
        members.push(member);
    }
    Ok(members)
}

fn taken_over(old: &Inner, generation: &Generation, resumed: Resumed) -> Result<Member, Stop> {
    let connection = &*old.request.connection;
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
            fault.log(generation, Hook::Resume, connection);
            return Err(Stop::Close(CloseFrame::new(1011, "filter failed"), filter.clone()));
        }
        Resumed::Fault(fault) => fault,
    };
    fault.log(generation, Hook::Resume, connection);
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
