//! The admin API on a real gate: every endpoint, every refusal.

mod access;
mod grants;
mod ops;
mod policy;
mod scene;
mod sessions;
