//! What an operator says with the release of a machine; nothing, if there is nothing to say.

use contract::identity::ReleaseAccept;
use serde::{Deserialize, Serialize};

use crate::document::machine as documented;
use crate::json::Documented;

/// What an operator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// By what the machine is known from now on.
    #[serde(default)]
    pub accept: ReleaseAccept,
}

impl Documented for Release {
    type Schema = documented::MachineRelease;
    const REQUIRED: bool = false;
}
