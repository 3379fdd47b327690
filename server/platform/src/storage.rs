//! Objects that guests store: bytes in a blob store of their own, and in the registry which namespace may read them.
//!
//! A put holds its blob from before the bytes are written until the registry names it. A removal checks the registry and removes
//! the blob while no hold can be taken. A removal therefore never removes a blob that a put has just named.

use crate::disk::DiskReserve;
use crate::limits::STORAGE_THREADS_MAX;
use crate::registry::{Registry, RegistryError, StoreError};
use bytes::Bytes;
use orama_runtime::limits::STORAGE_MAX_BYTES;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ErrorCode, ServiceError, Storage};
use orama_store::blob::{BlobError, Blobs, cid};
use orama_store::blocking::blocking_on;
use orama_store::limits::START_CLEANING_MAX;
use orama_store::part::PartError;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The objects of all namespaces. Clones share them.
#[derive(Clone)]
pub struct ObjectStorage {
    store: Store,
    /// The threads that wait for the disk.
    backplane: Handle,
    /// Bounds concurrent calls, and therefore the objects in memory.
    threads: Arc<Semaphore>,
}

#[derive(Clone)]
struct Store {
    registry: Registry,
    disk: DiskReserve,
    blobs: Arc<dyn Blobs>,
}

impl ObjectStorage {
    /// Creates the storage over a blob store that nothing else uses. Puts are refused if the disk has no room.
    pub fn new(registry: Registry, blobs: Arc<dyn Blobs>, disk: DiskReserve, backplane: Handle) -> Self {
        let threads = Arc::new(Semaphore::new(STORAGE_THREADS_MAX));
        Self { store: Store { registry, disk, blobs }, backplane, threads }
    }

    /// Removes a namespace's objects, and the blobs that no other namespace has stored. A failure to remove a blob is logged, and
    /// the next start tries again. Blocks.
    ///
    /// # Errors
    /// If the registry fails. Nothing is removed then.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), RegistryError> {
        for cid in self.store.registry.remove_objects(namespace)? {
            self.store.clean(&cid);
        }
        Ok(())
    }

    /// Removes unreferenced blobs that a crash left. Checks a bounded number of blobs. Blocks; it may run while the node serves.
    pub fn clean_unreferenced(&self) {
        match self.store.blobs.list(START_CLEANING_MAX) {
            Ok(cids) => cids.iter().for_each(|cid| self.store.clean(cid)),
            Err(error) => tracing::warn!(%error, "stored objects could not be listed"),
        }
    }

    /// Retries failed removals.
    pub fn retry_removals(&self) {
        self.store.blobs.retry_removals();
    }

    /// Restores objects that servers have lost. Returns how many they were.
    ///
    /// # Errors
    /// The registry's or the blob store's.
    pub fn repair(&self) -> Result<usize, PartError> {
        let in_use = self.store.registry.objects_in_use()?;
        Ok(self.store.blobs.repair(&in_use)?)
    }

    /// Checks that the blob store can be used.
    ///
    /// # Errors
    /// The blob store's own.
    pub fn check(&self) -> Result<(), BlobError> {
        self.store.blobs.check()
    }

    /// Runs blocking work when a permit is free.
    fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ServiceError> + Send + 'static,
    ) -> Answer<Result<T, ServiceError>> {
        let (threads, backplane, store) =
            (Arc::clone(&self.threads), self.backplane.clone(), self.store.clone());
        Box::pin(async move {
            let turn = threads.acquire_owned().await;
            let turn = turn.map_err(|_| ServiceError::unavailable("the node is stopping"))?;
            let done = blocking_on(&backplane, move || {
                let _turn = turn;
                work(&store)
            });
            done.await
        })
    }
}

impl Storage for ObjectStorage {
    fn put(&self, namespace: &Namespace, bytes: Bytes) -> Answer<Result<String, ServiceError>> {
        if bytes.len() > STORAGE_MAX_BYTES {
            let message =
                format!("the object has {} bytes; at most {STORAGE_MAX_BYTES} are allowed", bytes.len());
            let refused = Err(ServiceError::new(ErrorCode::PayloadTooLarge, message));
            return Box::pin(std::future::ready(refused));
        }
        let namespace = namespace.clone();
        self.on_disk(move |store| store.put(&namespace, &bytes))
    }

    fn get(&self, namespace: &Namespace, cid: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        if !cid::is_valid(cid) {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let (namespace, cid) = (namespace.clone(), cid.to_owned());
        self.on_disk(move |store| store.get(&namespace, &cid))
    }
}

impl Store {
    fn put(&self, namespace: &Namespace, bytes: &Bytes) -> Result<String, ServiceError> {
        let (cid, size) = (cid::of(bytes), bytes.len() as u64);
        self.registry.check_object(namespace, &cid, size).map_err(refused)?;
        self.disk.check(size).map_err(|full| ServiceError::unavailable(full.to_string()))?;
        let hold = self.blobs.holds().hold(&cid);
        let stored = self
            .blobs
            .put_as(&cid, bytes)
            .map_err(not_kept)
            .and_then(|()| self.registry.store_object(namespace, &cid, size).map_err(refused));
        if stored.is_ok() {
            confirm(&*self.blobs, &cid);
        }
        drop(hold);
        // Also removes a blob that was unreferenced meanwhile and was kept because of this hold.
        self.clean(&cid);
        stored.map(|()| cid)
    }

    fn get(&self, namespace: &Namespace, cid: &str) -> Result<Option<Bytes>, ServiceError> {
        if !self.registry.has_object(namespace, cid).map_err(|error| failed(&error))? {
            return Ok(None);
        }
        match self.blobs.get(cid) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            // The namespace may have been deleted meanwhile; otherwise the store has lost the blob.
            Ok(None) => match self.registry.has_object(namespace, cid) {
                Ok(false) => Ok(None),
                Ok(true) => Err(failed(&format_args!("stored object {cid} is lost"))),
                Err(error) => Err(failed(&error)),
            },
            Err(error @ BlobError::Damaged { .. }) => {
                tracing::error!(%error, "a stored object is damaged");
                Err(ServiceError::new(ErrorCode::Internal, "the object is damaged; put the same bytes again"))
            }
            Err(error) => Err(not_kept(error)),
        }
    }

    /// Removes a blob if it is unreferenced.
    fn clean(&self, cid: &str) {
        let outcome = self.blobs.holds().unless_held(cid, || match self.registry.is_object_referenced(cid) {
            Ok(true) => Ok(()),
            Ok(false) => self.blobs.remove(cid).map(drop).map_err(PartError::from),
            Err(error) => Err(error.into()),
        });
        if let Some(Err(error)) = outcome {
            tracing::warn!(%error, cid, "an unreferenced object could not be removed");
        }
    }
}

fn refused(error: StoreError) -> ServiceError {
    match error {
        StoreError::TooMany { .. } | StoreError::TooLarge { .. } => {
            ServiceError::new(ErrorCode::PayloadTooLarge, error.to_string())
        }
        StoreError::Registry(RegistryError::NoNamespace(_)) => {
            ServiceError::unavailable("the namespace is being deleted")
        }
        StoreError::Registry(error) => match error.unavailable() {
            Some(why) => {
                tracing::warn!(%error, "an object could not be stored");
                ServiceError::unavailable(why.words())
            }
            None => failed(&error),
        },
    }
}

/// Tells the store that a blob is named now. The blob is stored already, so a failure reverts nothing.
pub fn confirm(blobs: &dyn Blobs, cid: &str) {
    if let Err(error) = blobs.confirm(cid) {
        tracing::warn!(%error, cid, "a blob may not be pinned; the node checks it again later");
    }
}

fn not_kept(error: BlobError) -> ServiceError {
    match error {
        BlobError::Unavailable(_) => {
            tracing::warn!(%error, "the object storage cannot be reached");
            ServiceError::unavailable("the object storage cannot be reached now; try again")
        }
        error => failed(&error),
    }
}

/// Logs the cause, which may name files, and returns what the guest is told.
fn failed(error: &dyn std::fmt::Display) -> ServiceError {
    tracing::error!(%error, "the object storage failed");
    ServiceError::new(ErrorCode::Internal, "the storage failed inside the node; its log tells why")
}

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
