//! The runtime on the memory adapters, seen from outside.

mod bank;
mod commands;
mod consuming;
mod operate;
mod projector;
mod queries;
mod timers;
mod world;
