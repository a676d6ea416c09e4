//! The filters of `filters/`, each with clients and servers that people use.

mod authorize;
mod json_schema;
mod message_router;
mod rewrite;
