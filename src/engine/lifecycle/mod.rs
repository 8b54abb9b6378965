//! From the first look at the table to the last drop: attempt after attempt, what is prepared, what runs, and how it ends.
//!
//! Owns every task of an engine (one `JoinSet` an attempt) and every decision about what comes next; what it decides on is gathered from the
//! rooms below.
pub mod approach;
mod desired;
pub mod lost;
pub mod migrator;
pub mod next;
pub mod old_table;
pub mod prepare;
mod way_back;
