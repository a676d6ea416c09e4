//! A member's shadow.

use std::rc::Rc;

use super::{Member, NoAnswer};
use crate::{
    filter::{Closer, bindings::wsgate::filter::types::Verdict, live::Share, pool::Instances, shadow::Shadow},
    message::{CloseFrame, Direction, Kind, Message},
};

impl Member {
    pub(in crate::filter) fn set_shadow(&self, shadow: Option<Shadow>) {
        self.shadow.replace(shadow);
    }

    /// Would the shadow be asked about such a message? One of a filter that is bypassed is not.
    pub(in crate::filter) fn is_shadowed(&self, direction: Direction, kind: Kind) -> bool {
        let shadow = self.shadow.borrow();
        shadow.as_ref().is_some_and(|shadow| shadow.hears(direction, kind)) && !self.generation().is_bypassed()
    }

    /// The shadow is to see a message that this member answered so, or was not asked about.
    pub(in crate::filter) fn show(
        &self,
        direction: Direction,
        message: &Message,
        answer: Option<&Result<Result<Verdict, String>, NoAnswer>>,
    ) {
        if let Some(shadow) = &*self.shadow.borrow()
            && !self.generation().is_bypassed()
        {
            shadow.message(direction, message, answer);
        }
    }

    /// The session goes on with another generation, or another shadow, or none.
    pub(in crate::filter) fn follow_shadow(&self, share: Option<&Share>, instances: &Rc<Instances>) {
        match (&mut *self.shadow.borrow_mut(), share) {
            (None, _) => {}
            (shadow @ Some(_), None) => *shadow = None,
            (Some(shadow), Some(share)) => shadow.follow(instances.pool(&share.generation)),
        }
    }

    /// Takes the shadow of the member that it replaces.
    pub(in crate::filter) fn take_shadow_of(&self, before: &Self) {
        self.shadow.replace(before.shadow.take());
    }

    pub(super) fn close_shadow(&self, by: Closer, frame: &CloseFrame) {
        if let Some(shadow) = self.shadow.take() {
            shadow.close(by, frame.clone());
        }
    }
}
