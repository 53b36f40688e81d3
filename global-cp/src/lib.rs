//! The global control plane: keeps an organisation's policies, synchronises them with its zones, and answers for
//! all of them.

pub mod app;
pub mod cli;
pub mod config;
pub mod inspect;
pub mod kds;
