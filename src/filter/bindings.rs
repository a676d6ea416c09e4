//! The contract, `wit/0.1.0`, as Rust types. Generated, nothing else lives here.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "generated from WIT, where the documentation is")]
#![allow(clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "wit/0.1.0",
    world: "filter-http",
    // Parameters are borrowed, so that a call copies a message once: into the guest.
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: {
        // What may wait for others.
        "wsgate:filter/key-value": async | trappable,
        "wsgate:filter/http-client": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
