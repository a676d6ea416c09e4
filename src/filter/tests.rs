//! Filters end to end below the session: real guests, real files, one worker.

mod breaker;
mod catalogue;
mod faults;
mod folder;
mod isolation;
mod load;
mod logs;
mod migrate;
mod open;
mod order;
mod own_instances;
mod recycling;
mod refused;
mod reports;
mod speed;
mod verdicts;
