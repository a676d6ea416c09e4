//! Clients that connect without pause, and what they meet.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::wire;

const AT_ONCE: usize = 4;

/// What they met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) switched: usize,
    pub(crate) unavailable: usize,
    /// No TCP connection, and when.
    pub(crate) refused: Vec<Instant>,
    /// A TCP connection without an answer.
    pub(crate) reset: Vec<String>,
}

fn knock(address: SocketAddr, path: &str, met: &mut Met) {
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
        met.refused.push(Instant::now());
        return;
    };
    let mut wire = wire::Wire::client_of(stream);
    let request = format!("{}\r\n\r\n", wire::request(address, path).join("\r\n"));
    let sent = std::io::Write::write_all(&mut wire.stream, request.as_bytes());
    match sent.map(|()| wire.head()) {
        Ok(Some(head)) if head.starts_with("HTTP/1.1 101") => met.switched += 1,
        Ok(Some(head)) if head.starts_with("HTTP/1.1 503") => {
            assert!(head.to_ascii_lowercase().contains("retry-after:"), "{head}");
            assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
            met.unavailable += 1;
        }
        other => met.reset.push(format!("{other:?}")),
    }
}

/// See the module. Each connection is dropped once it is answered.
pub(crate) struct Knocking {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Met>>,
}

impl Knocking {
    pub(crate) fn start(address: SocketAddr, path: &'static str) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..AT_ONCE).map(|_| {
            let (over, answered) = (over.clone(), answered.clone());
            thread::spawn(move || {
                let mut met = Met::default();
                while !over.load(Ordering::Relaxed) {
                    knock(address, path, &mut met);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                met
            })
        });
        let threads = threads.collect();
        Self { over, answered, threads }
    }

    /// How many came so far.
    pub(crate) fn count(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Met {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Met::default();
        for thread in self.threads {
            let met = thread.join().unwrap();
            all.switched += met.switched;
            all.unavailable += met.unavailable;
            all.refused.extend(met.refused);
            all.reset.extend(met.reset);
        }
        all
    }
}
