//! Every filter's `open`, in order.

use std::{rc::Rc, sync::Arc};

use super::{Chain, Inner};
use crate::{
    config::FailurePolicy,
    filter::{
        Admission, Closer, NotAdmitted, OpeningRequest,
        bindings::exports::wsgate::filter::handler::Admission as Admitted,
        edits::{refusal_headers, refusal_status},
        fault::{Fault, FaultKind},
        finish,
        live::{ChainSpec, Drawn},
        member::{Member, Opened},
        pool::Instances,
        shadow::Shadow,
        tally::Hook,
    },
    message::CloseFrame,
};

/// What the filters that had admitted a connection hear when a later one does not.
const NOT_ADMITTED: (u16, &str) = (1008, "not admitted");

pub(super) async fn open(
    instances: Rc<Instances>,
    spec: Arc<ChainSpec>,
    request: Rc<OpeningRequest>,
) -> Result<(Chain, Admission), NotAdmitted> {
    if let Some(filter) = spec.closed_by() {
        return Err(NotAdmitted::Closed { filter: filter.clone() });
    }
    let mut opening = Opening { admission: Admission::default(), members: Vec::with_capacity(spec.slots().len()) };
    for slot in spec.slots() {
        let Drawn { serving, shadow } = slot.draw();
        let pool = instances.pool(serving);
        if serving.is_bypassed() {
            opening.members.push(Rc::new(Member::late(pool, request.clone())));
            continue;
        }
        let opened = Member::open(pool, request.clone()).await;
        if let Some(shadow) = shadow.filter(|_| !matches!(opened, Opened::ClientRefused(_))) {
            let shadow = Shadow::start(instances.pool(shadow), request.clone(), &opened);
            // One that the filter refuses ends with its comparison.
            if let Opened::Admitted(member, _) | Opened::Failed(member, _) | Opened::Broken(member, _) = &opened {
                member.set_shadow(shadow);
            }
        }
        if let Err(refused) = opening.take(serving.filter(), opened, &request) {
            opening.abort();
            return Err(refused);
        }
    }
    let inner = Inner::new(instances, request, spec, opening.members, Rc::default());
    Ok((Chain { inner }, opening.admission))
}

struct Opening {
    admission: Admission,
    members: Vec<Rc<Member>>,
}

impl Opening {
    fn take(&mut self, filter: &Arc<str>, opened: Opened, request: &OpeningRequest) -> Result<(), NotAdmitted> {
        let filter = filter.clone();
        match opened {
            Opened::Admitted(member, admitted) => self.admit(filter, member, *admitted),
            Opened::Failed(member, fault) => self.fault(filter, member, &fault),
            Opened::Refused(mut refusal) => Err(NotAdmitted::Refused {
                headers: refusal_headers(&filter, &mut refusal),
                status: refusal_status(&filter, refusal.status),
                body: refusal.body,
                filter,
            }),
            Opened::ClientRefused(retry_after) => Err(NotAdmitted::Client { filter, retry_after }),
            Opened::Broken(member, fault) => {
                member.log(&fault, Hook::Open);
                match member.generation().settings().failure_policy {
                    FailurePolicy::FailClosed => Err(NotAdmitted::Capacity { filter }),
                    FailurePolicy::FailOpen => {
                        self.members.push(Rc::new(member));
                        Ok(())
                    }
                }
            }
            Opened::NoRoom(fault) => {
                tracing::warn!(
                    filter = &*filter,
                    connection = request.connection,
                    cause = fault.cause,
                    "no filter instance for a connection"
                );
                Err(NotAdmitted::Capacity { filter })
            }
        }
    }

    fn admit(&mut self, filter: Arc<str>, member: Member, mut admitted: Admitted) -> Result<(), NotAdmitted> {
        if let Some(upstream) = &admitted.upstream
            && let Err(cause) = member.generation().rights().check_upstream(upstream)
        {
            admitted.upstream = None;
            self.admission.merge(&filter, admitted);
            return self.fault(filter, member, &Fault::new(FaultKind::Verdict, cause));
        }
        self.admission.merge(&filter, admitted);
        self.members.push(Rc::new(member));
        Ok(())
    }

    fn fault(&mut self, filter: Arc<str>, member: Member, fault: &Fault) -> Result<(), NotAdmitted> {
        member.log(fault, Hook::Open);
        let policy = member.generation().settings().failure_policy;
        self.members.push(Rc::new(member));
        match policy {
            FailurePolicy::FailClosed => Err(NotAdmitted::Fault { filter }),
            FailurePolicy::FailOpen => Ok(()),
        }
    }

    /// The filters that had admitted the connection hear of its end, while the client gets its answer.
    fn abort(self) {
        let (code, reason) = NOT_ADMITTED;
        finish(Box::pin(async move {
            for member in self.members {
                member.close(Closer::Filter, &CloseFrame::new(code, reason)).await;
            }
        }));
    }
}
