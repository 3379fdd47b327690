//! Where a node keeps modules and objects: in folders of its own, or in IPFS with folders in front.

use crate::registry::Registry;
use crate::settings::Places;
use orama_store::blob::ipfs::{IpfsBlobs, Settings};
use orama_store::blob::local::LocalBlobs;
use orama_store::blob::{BlobError, Blobs};
use orama_store::breaker::Breaker;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The node's stores of blobs.
pub struct BlobStores {
    /// The modules' bytes, by content id.
    pub modules: Arc<dyn Blobs>,
    /// What functions stored, by content id.
    pub objects: Arc<dyn Blobs>,
    /// The circuit breaker of the server behind both.
    pub breaker: Option<Breaker>,
}

impl BlobStores {
    /// Opens both where `places` says; folders are below `data`. Blocks.
    ///
    /// # Errors
    /// [`BlobError`]
    pub fn open(
        places: &Places,
        data: &Path,
        registry: &Registry,
        backplane: &Handle,
    ) -> Result<Self, BlobError> {
        const MODULES: &str = "blobs";
        const OBJECTS: &str = "objects";
        let Some(kubo) = &places.backends.blobs else {
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
                pin_name: format!("{}/{what}", places.backends.cluster),
                breaker: breaker.clone(),
                is_named: Arc::new(move |cid| Ok(registry.is_blob_named(cid)?)),
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
