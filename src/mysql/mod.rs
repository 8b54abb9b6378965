//! MySQL as the engine uses it: sessions with defined variables, errors with a class, binary log positions and GTID sets.
//!
//! Promises: every variable of a session that matters is defined ([`variables`]), not inherited; every statement has a time limit; no error text carries a
//! row value, an account or a password ([`error::MySqlError`]).
pub mod codes;
pub mod error;
pub mod gtid;
pub mod own;
pub mod position;
pub mod server;
pub mod session;
pub mod settings;
pub mod variables;
pub mod versions;

pub use error::{Class, MySqlError};
pub use gtid::GtidSet;
pub use position::BinlogPosition;
pub use session::{ServerAddress, Session, Tls, TlsMode};
pub use settings::{Purpose, RowSettings, ServerValues};
pub use versions::{Flavour, Product};
