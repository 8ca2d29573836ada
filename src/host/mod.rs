//! The host: what it offers ([`facts`], plain data) and how to ask it ([`probe`]),
//! and what a person can do about it ([`doctor`]).

pub mod doctor;
pub mod facts;
mod format;
pub(crate) mod names;
pub mod probe;
pub(crate) mod reason;

pub use format::FactsError;
