//! The thread that watches files and compiles, at low priority.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Instant,
};

use tokio::sync::watch as latest;

use super::{
    orders::{Order, Orders},
    state::State,
    status::Board,
};
use crate::{
    file_watch::{FileWatch, RESCAN, quiet_down},
    filter::live::Live,
};

/// Compiling must not slow the workers down; nor may busy workers keep a new filter away for ever. The processes that
/// compile inherit it from this thread; at the start, before there is anything to slow down, it does not hold.
const NICENESS: i32 = 5;

/// Starts the thread.
pub(super) fn start(
    state: State,
    publish: latest::Sender<Arc<Live>>,
    board: Arc<Board>,
    stopped: Arc<AtomicBool>,
) -> io::Result<Arc<Orders>> {
    let (wake, woken) = sync_channel(1);
    let orders = Arc::new(Orders::new(wake.clone()));
    let files = FileWatch::new(wake, "filters");
    let mut watch = Watch { state, publish, board, orders: orders.clone(), files };
    // Before the caller goes on: what changes from now on is heard.
    watch.follow_directories();
    thread::Builder::new().name("wsgate-filters".to_owned()).spawn(move || {
        lower_priority();
        watch.run(&woken, &stopped);
    })?;
    Ok(orders)
}

struct Watch {
    state: State,
    publish: latest::Sender<Arc<Live>>,
    board: Arc<Board>,
    orders: Arc<Orders>,
    files: FileWatch,
}

impl Watch {
    fn run(&mut self, woken: &Receiver<()>, stopped: &AtomicBool) {
        let mut again = None;
        while !stopped.load(Ordering::SeqCst) {
            let rescan = Instant::now() + RESCAN;
            let until = again.map_or(rescan, |again: Instant| again.min(rescan));
            match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) if self.carry_out_orders() => {}
                Ok(()) => {
                    quiet_down(woken);
                    // What was given meanwhile has no other message that tells of it.
                    self.carry_out_orders();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            again = self.scan();
            self.follow_directories();
        }
    }

    fn scan(&mut self) -> Option<Instant> {
        let scanned = self.state.scan();
        self.publish(scanned.live);
        scanned.again
    }

    fn publish(&mut self, live: Option<Live>) {
        if let Some(live) = live {
            let live = Arc::new(live);
            for (route, chain) in live.changed(&self.publish.borrow()) {
                let filters: Vec<_> = chain.names().collect();
                tracing::info!(route, filters = filters.join(", "), "the filters of a route changed");
            }
            self.state.published(&live);
            self.publish.send_replace(live);
        }
        self.board.post(self.state.rows(), self.state.complete());
    }

    /// Whoever gave an order gets its answer once what it changed is published. Answers whether there was one.
    fn carry_out_orders(&mut self) -> bool {
        let mut any = false;
        while let Some(order) = self.orders.take() {
            any = true;
            match order {
                // Whoever does not wait any more does not expect anything to change.
                Order::RollBack { answer, .. } if answer.is_closed() => {}
                Order::Lift { answer, .. } if answer.is_closed() => {}
                Order::RollBack { filter, answer } => {
                    let done = self.state.roll_back(&filter);
                    let live = self.state.rebuild();
                    self.publish(live);
                    let _ = answer.send(done);
                }
                Order::Lift { filter, sha256, answer } => {
                    let done = self.state.lift(&filter, &sha256);
                    self.publish(None);
                    let _ = answer.send(done);
                }
                Order::Configure { config, answer } => {
                    let done = self.state.configure(&config);
                    if done.is_ok() {
                        let live = self.state.rebuild();
                        self.publish(live);
                        self.follow_directories();
                    }
                    let _ = answer.send(done);
                }
                Order::Rouse => self.publish.send_modify(|_| ()),
            }
        }
        any
    }

    fn follow_directories(&mut self) {
        self.files.follow(self.state.directories());
    }
}

fn lower_priority() {
    // On Linux this is the thread's own; elsewhere it would be the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!("filters are compiled at the priority of everything else: {error}");
    }
}
