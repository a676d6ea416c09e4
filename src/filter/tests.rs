//! Filters end to end below the session: real guests, real files, one worker.

mod breaker;
mod canary;
mod candidate_faults;
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
mod own_instances;
mod recycling;
mod refused;
mod reports;
mod rollback;
mod shadow;
mod speed;
mod speed_protocols;
mod stores;
mod verdicts;
