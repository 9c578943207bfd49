//! What can go wrong in the scheduler, and what of it the asker is told.

pub use owner::OwnerError as SchedulerError;
