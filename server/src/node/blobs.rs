//! Where a node keeps modules and objects: in folders of its own, or in IPFS with folders in front.

use crate::backend::blob::ipfs::{IpfsBlobs, Settings};
use crate::backend::blob::local::LocalBlobs;
use crate::backend::blob::{BlobError, Blobs};
use crate::backend::reach::Breaker;
use crate::config::Config;
use crate::registry::Registry;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The node's stores of blobs.
pub(crate) struct BlobStores {
    pub(crate) modules: Arc<dyn Blobs>,
    pub(crate) objects: Arc<dyn Blobs>,
    /// The circuit of what is behind both.
    pub(crate) breaker: Option<Breaker>,
}

impl BlobStores {
    pub(crate) fn open(
        config: &Config,
        data: &Path,
        registry: &Registry,
        backplane: &Handle,
    ) -> Result<Self, BlobError> {
        const MODULES: &str = "blobs";
        const OBJECTS: &str = "objects";
        let Some(kubo) = &config.backends.blobs else {
            let open = |folder| LocalBlobs::open(&data.join(folder)).map(Arc::new);
            return Ok(Self { modules: open(MODULES)?, objects: open(OBJECTS)?, breaker: None });
        };
        let breaker = Breaker::new("blobs");
        let open = |folder: &str, what: &str| {
            let registry = registry.clone();
            IpfsBlobs::open(Settings {
                dir: &data.join(folder),
                copies: &data.join("copies").join(folder),
                api_url: &kubo.api_url,
                pin_name: format!("{}/{what}", config.backends.cluster),
                breaker: breaker.clone(),
                is_named: Arc::new(move |cid| registry.is_blob_named(cid).map_err(|error| error.to_string())),
                backplane: backplane.clone(),
            })
            .map(Arc::new)
        };
        Ok(Self {
            modules: open(MODULES, "modules")?,
            objects: open(OBJECTS, "objects")?,
            breaker: Some(breaker),
        })
    }
}
