//! Measures wsgate beside its peers, in one run, and prints one table.
//!
//! In reading order: what is sent, through what, by whom, what is taken of it, and how it is shown.

pub mod case;
pub mod message;

pub mod peer;
pub mod child;
pub mod config;
pub mod echo;

pub mod frame;
pub mod handshake;
pub mod probe;
pub mod load;

pub mod bench;
pub mod measure;
pub mod proc;
pub mod interrupt;

pub mod table;
pub mod machine;
pub mod page;
