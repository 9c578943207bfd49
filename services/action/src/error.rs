//! What can go wrong in the action service, and what of it the asker is told.

pub use owner::OwnerError as ActionError;
