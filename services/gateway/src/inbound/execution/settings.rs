//! What is said of an organisation's executions as a whole.

use contract::job::{Settings, SettingsEdit, SettingsGet};
use poem_openapi::OpenApi;

use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{ChangeWithBody, Refusal, Session};

/// The operations.
pub struct ExecutionSettings {
    owners: Owners,
}

impl ExecutionSettings {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/execution-settings", tag = "Tag::Executions")]
impl ExecutionSettings {
    /// Get what is said of all executions
    #[oai(path = "/", method = "get", operation_id = "execution_settings_get")]
    async fn get(&self, caller: Caller) -> Result<Shown<Settings>, Refusal<Session>> {
        Ok(Shown(self.owners.read(&caller, &SettingsGet {}).await?))
    }

    /// Say something of all executions
    ///
    /// A merge patch (RFC 7396): what is absent stays, `null` takes the limit away. While they are paused executions may be asked for,
    /// and wait; what runs goes on. `weight` is for the platform's administrators.
    #[oai(path = "/", method = "patch", operation_id = "execution_settings_edit")]
    async fn edit(
        &self,
        caller: Caller,
        body: Given<SettingsEdit>,
    ) -> Result<Shown<Settings>, Refusal<ChangeWithBody>> {
        Ok(Shown(self.owners.write(&caller, &body.0).await?))
    }
}
