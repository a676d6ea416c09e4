//! Filters end to end below the session: real guests, real files, one worker.

mod catalogue;
mod faults;
mod folder;
mod http;
mod isolation;
mod load;
mod logs;
mod migrate;
mod open;
mod order;
mod refused;
mod speed;
mod stores;
mod verdicts;
