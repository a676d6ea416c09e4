//! What operators tell the thread that watches: a bounded list, and why an order is not carried out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, TrySendError},
    },
};

use tokio::sync::oneshot;

use super::{LoadError, rollback::RolledBack};
use crate::{config::Config, filter::compile::NotAFilter};

/// Orders that wait while a file is compiled; more are refused.
const WAITING: usize = 16;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no such filter.
    #[error("no filter of this name is known")]
    UnknownFilter,
    /// The first generation serves, or all before it were rolled back.
    #[error("nothing to roll back to: no earlier generation is kept")]
    NothingBefore,
    /// What served before does not start any more.
    #[error("{generation}, which served before, cannot serve again")]
    Unfit {
        /// The first 12 digits of its hash.
        generation: String,
        /// Why.
        #[source]
        error: NotAFilter,
    },
    /// The content is not in quarantine.
    #[error("this content of the filter is not quarantined")]
    NotQuarantined,
    /// Too many orders wait, or it takes too long.
    #[error("filters are being loaded; try again")]
    Busy,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, OrderError>>;

/// Something to do.
pub(super) enum Order {
    /// Another configuration takes the place of the one before, or nothing changes.
    Configure { config: Arc<Config>, answer: oneshot::Sender<Result<(), LoadError>> },
    /// Go back to what served before.
    RollBack { filter: String, answer: Answer<Vec<RolledBack>> },
    /// A content may be loaded again. Answers whether a restart will know.
    Lift { filter: String, sha256: String, answer: Answer<bool> },
    /// Let every session take a turn.
    Rouse,
}

/// The way to the thread.
pub(super) struct Orders {
    waiting: Mutex<VecDeque<Order>>,
    wake: SyncSender<()>,
}

impl Orders {
    pub(super) fn new(wake: SyncSender<()>) -> Self {
        Self { waiting: Mutex::default(), wake }
    }

    /// # Errors
    /// Too many wait already.
    pub(super) fn give(&self, order: Order) -> Result<(), OrderError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING {
            return Err(OrderError::Busy);
        }
        waiting.push_back(order);
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// The next one.
    pub(super) fn take(&self) -> Option<Order> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The thread looks up.
    pub(super) fn wake(&self) {
        match self.wake.try_send(()) {
            // Full: a message is waiting already.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}
