//! The command from its outside: real processes, sockets and signals, on emulated boards.
//!
//! Each test has surroundings of its own ([`support::Ground`]), so they run side by side and never meet the machine's
//! own sockets; each of its processes has a time limit, and none outlives its test.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

mod bad_input;
mod blink;
mod browser;
mod commands;
mod completing;
mod dead_boards;
mod deaths;
mod designs_table;
mod every_design;
mod examples;
mod faults;
mod flash;
mod i2c;
mod in_place;
mod info;
mod kills;
mod machine;
mod moving;
mod on_demand;
mod operating;
mod pages;
mod policy;
mod program;
mod programs;
mod python_client;
mod registers;
mod resources;
mod restarting;
mod rude_clients;
mod sensors;
mod service;
mod sharing;
mod signals;
mod strangers;
mod streaming;
mod support;
mod tapping;
mod testing;
mod unread;
mod unread_logs;
mod waiting;
mod watching;
mod xdma_compat;
