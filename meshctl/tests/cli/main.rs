//! The shipped binary against control planes that run in this process: one that plays back answers, and the
//! API that both control planes serve.

#![expect(clippy::unwrap_used, reason = "a test program: clippy sees only the test functions as tests")]

mod connections;
mod fake;
mod observations;
mod real;
mod resources;
mod run;
