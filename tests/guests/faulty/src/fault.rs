//! The faults themselves.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use wsgate_sdk::prelude::*;

use crate::command::number;

const MIB: usize = 1 << 20;

/// A fault that any function can commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Trap,
    Spin,
    Grow,
    Sleep(Duration),
}

impl Fault {
    pub(crate) fn parse(word: &str, argument: Option<&str>) -> Result<Self, Error> {
        Ok(match word {
            "trap" => Self::Trap,
            "spin" => Self::Spin,
            "grow" => Self::Grow,
            "sleep" => Self::Sleep(Duration::from_millis(number(argument, 10_000)?)),
            _ => return Err(Error::new(format_args!("`{word}` is no fault"))),
        })
    }

    /// Only a sleep returns.
    pub(crate) fn commit(self, place: &str) {
        match self {
            Self::Trap => panic!("told to trap in {place}"),
            Self::Spin => spin(),
            Self::Grow => grow(),
            Self::Sleep(time) => std::thread::sleep(time),
        }
    }
}

pub(crate) fn spin() -> ! {
    loop {
        black_box(());
    }
}

pub(crate) fn spin_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        for step in 0..10_000 {
            black_box(step);
        }
    }
}

/// Every page is written, so that it is memory and no promise.
pub(crate) fn grow() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; MIB]));
    }
}

/// How much can be had, in MiB. All of it is given back.
pub(crate) fn grow_politely() -> usize {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut more = Vec::new();
        if more.try_reserve_exact(MIB).is_err() || held.try_reserve(1).is_err() {
            return held.len();
        }
        more.resize(MIB, 1);
        held.push(black_box(more));
    }
}

thread_local! {
    static HELD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn hold(mib: usize) {
    HELD.with_borrow_mut(|held| held.push(black_box(vec![1_u8; mib * MIB])));
}

pub(crate) fn recurse(depth: u64) -> u64 {
    // Not in tail position, and not to be seen through: each call keeps its frame.
    match black_box(true) {
        true => recurse(black_box(depth + 1)) + depth,
        false => depth,
    }
}

pub(crate) fn log_flood(lines: u64) {
    for line in 0..lines {
        log::info!("flood {line}");
    }
}

pub(crate) fn log_big(bytes: usize) {
    log::write(log::Level::Info, &"x".repeat(bytes), &[]);
}

pub(crate) fn log_fields(count: usize) {
    let fields: Vec<_> = (0..count).map(|field| ("field", field.to_string())).collect();
    log::write(log::Level::Info, "fields", &fields);
}

pub(crate) fn metric_flood(count: u64) {
    for number in 0..count {
        let label = number.to_string();
        metrics::add(&format!("flood_{number}"), &[("number", &label)], 1);
    }
}

/// Makes handles of the exported resource, as an SDK does for each connection, and drops none.
pub(crate) fn leak_handles(count: u64) {
    #[cfg(target_family = "wasm")]
    #[expect(unsafe_code, reason = "an import that safe bindings offer only to their own session type")]
    {
        #[link(wasm_import_module = "[export]wsgate:filter/handler@0.1.0")]
        unsafe extern "C" {
            #[link_name = "[resource-new]session"]
            fn new_session(representation: usize) -> u32;
        }
        for _ in 0..count {
            // SAFETY: the handle never leaves this component and is never dropped, so nothing follows the representation.
            black_box(unsafe { new_session(0) });
        }
    }
    #[cfg(not(target_family = "wasm"))]
    let _ = count;
}
