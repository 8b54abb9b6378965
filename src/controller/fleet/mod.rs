//! What is remembered of each migration while this process leads ([`registry`], [`entry`], [`state`]), whose turn it is ([`queue`]), which others
//! must have succeeded first ([`order`]), what can be known before its turn ([`ahead`]), who is woken ([`wake`]), how long to wait after a failure ([`backoff`]), and whether this process still leads
//! ([`validity`]).
pub mod ahead;
pub mod backoff;
pub mod entry;
pub mod order;
pub mod queue;
pub mod registry;
pub mod state;
pub mod validity;
pub mod wake;
