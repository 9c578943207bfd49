//! The pools of workers. Each has a user on the bus, with a seed and rights of its own, and a consumer.

use domain::job::POOL_DEFAULT;
use runtime::{ConfigError, Reader};

/// Reads `DASHFLEET_SCHEDULER_POOLS`, which the scheduler reads, too: both are to be told the same.
///
/// # Errors
/// [`ConfigError`] when one of them is no name of a pool, or is named twice.
pub fn read(reader: &mut Reader) -> Result<Vec<String>, ConfigError> {
    let variable = "DASHFLEET_SCHEDULER_POOLS";
    let list: String = reader.or(variable, POOL_DEFAULT.to_owned())?;
    domain::job::pools(&list).map_err(|reason| ConfigError {
        variable: variable.into(),
        reason,
    })
}
