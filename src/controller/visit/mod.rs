//! One visit to one object: from what it asks for to what is written. Nothing here outlives the visit but engines, which belong to the fleet.
pub mod apply;
pub mod cleanup;
pub mod conditions;
pub mod context;
pub mod drive;
pub mod events;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod status;
