//! Filters end to end below the session: real guests, real files, one worker.

mod canary;
mod catalogue;
mod compiled;
mod faults;
mod folder;
mod http;
mod isolation;
mod load;
mod logs;
mod messaging;
mod migrate;
mod open;
mod order;
mod modes;
mod refused;
mod rollback;
mod shadow;
mod speed;
mod stores;
mod verdicts;
