//! Octroi in one process: a private PostgreSQL and the three services, and the operator's commands.
//!
//! [`cluster`] runs the database, [`bootstrap`] makes its roles and schemas, [`keys`] the installation's secrets,
//! [`system`] the services on them; [`serve`], [`demo`], [`verify`] and [`replay`] are the commands
//! over these.

pub mod api;
pub mod bootstrap;
pub mod cli;
pub mod clock;
pub mod cluster;
mod connect;
pub mod demo;
pub mod distribute;
pub mod failure;
mod interrupt;
pub mod keys;
mod output;
pub mod place;
pub mod replay;
pub mod serve;
pub mod system;
pub mod tables;
pub mod verify;
