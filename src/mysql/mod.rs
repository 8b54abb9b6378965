//! MySQL as the engine uses it: sessions with fixed settings, errors with a class, binary log positions and GTID sets.
//!
//! Promises: every session has the settings of [`session::SESSION_SETTINGS`]; every statement has a time limit; no error text carries a
//! row value, an account or a password ([`error::MySqlError`]).
pub mod error;
pub mod gtid;
pub mod own;
pub mod position;
pub mod server;
pub mod session;
pub mod versions;

pub use error::{Class, MySqlError};
pub use gtid::GtidSet;
pub use position::BinlogPosition;
pub use session::{ServerAddress, Session, Tls, TlsMode};
pub use versions::{Flavour, Product};
