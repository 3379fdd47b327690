//! What a running node takes over of another configuration.

use super::Node;
use super::assemble::watch_issuers;
use crate::config::Config;

impl Node {
    /// Takes over the issuers of tokens and their keys, the master keys of a shared file, and whether requests are logged. What
    /// cannot be used is logged with the name of its file, and stays as it was. Blocks.
    pub fn reload(&self, config: &Config) {
        match self.platform.authority.reload(config.issuers.clone()) {
            Ok(new) => {
                if let Some(backplane) = &self.backplane {
                    watch_issuers(&new, backplane.handle());
                }
            }
            Err(error) => tracing::error!(%error, "the issuers of tokens stay as they were"),
        }
        if let Err(error) = self.platform.secrets.reload() {
            tracing::error!(%error, "the master keys stay as they were");
        }
        if let Err(error) = self.access_log.switch(config.log.access) {
            tracing::error!(%error, "requests are not logged");
        }
    }
}
