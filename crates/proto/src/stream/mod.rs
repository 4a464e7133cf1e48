//! RFC 6120 §4: streams as state machines.
