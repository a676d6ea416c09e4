//! Filters end to end below the session: real guests, real files, one worker.

mod speed;
mod verdicts;
