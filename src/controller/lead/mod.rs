//! The Lease ([`leadership`]), and everything that runs while it is held: watches, controllers and the care for the fleet ([`scope`]), and the
//! look at servers ([`server`]). Owns every task of the operator, and joins them before the Lease is given back.
pub mod leadership;
pub mod scope;
pub mod server;
