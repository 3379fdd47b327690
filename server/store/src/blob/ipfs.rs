//! Blobs in IPFS: a folder of this node in front of kubo, which keeps them pinned and fetches those of other nodes.
//!
//! **A put** returns when the blob is on this disk and added and pinned in kubo. **A get** answers from the disk. A
//! blob that is not there comes from kubo: single-flight, checked against its id, and kept as one of a bounded number
//! of copies.
//!
//! **Removing** is safe while other nodes share the kubo, although nothing holds a pin for them. A deploy pins (P),
//! has the registry name the blob (N), and [confirms](Blobs::confirm) the pin (C). A removal checks that the blob is
//! not named, unpins (U), checks again with a registry that has caught up (L), and pins again if it is named. If N
//! comes before L, the removal pins again. If L comes before N, then U does too. C comes after N, so it finds that
//! the pin is gone and pins again, with the bytes of its own disk if kubo has collected them. [`Blobs::repair`] finds
//! what a crash between U and L leaves unpinned. The local copy is removed last: it reminds the next start of an
//! interrupted removal.

use super::local::LocalBlobs;
use super::{BlobError, Blobs, Holds, cid};
use crate::breaker::Breaker;
use crate::causes::{Cause, SharedCause};
use crate::limits::{BLOB_COPIES_MAX_BYTES, START_CLEANING_MAX};
use crate::single_flight::SingleFlight;
use api::{Api, CallError};
use bytes::Bytes;
use fetched::Fetched;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, mpsc};
use tokio::runtime::Handle;
use url::Url;

mod api;
mod fetched;

/// Whether the registry names a blob, considering every change that any node acknowledged before the call. Blocks.
pub type IsNamed = Arc<dyn Fn(&str) -> Result<bool, Cause> + Send + Sync>;

/// The configuration of a store in IPFS.
pub struct Settings<'a> {
    /// The folder of blobs that this node has put.
    pub dir: &'a Path,
    /// The folder of copies of other blobs.
    pub copies: &'a Path,
    /// The address of kubo's API.
    pub api_url: &'a Url,
    /// The name of the pins, for people who list them.
    pub pin_name: String,
    /// The circuit breaker of that kubo.
    pub breaker: Breaker,
    /// See [`IsNamed`].
    pub is_named: IsNamed,
    /// The runtime of the calls.
    pub backplane: Handle,
}

/// A content-addressed store in IPFS. Clones share it.
#[derive(Clone)]
pub struct IpfsBlobs(Arc<Inner>);

struct Inner {
    own: LocalBlobs,
    copies: Fetched,
    kubo: Arc<Kubo>,
    is_named: IsNamed,
    backplane: Handle,
    /// Fetches in progress (single-flight).
    fetches: SingleFlight<String, Result<Option<Bytes>, SharedCause>>,
    /// Failed removals. After a restart, the local copies tell which they were.
    unremoved: Mutex<HashSet<String>>,
}

/// The state that calls share.
struct Kubo {
    api: Api,
    pin_name: String,
}

/// A failure of kubo or of the connection to it.
#[derive(Debug, thiserror::Error)]
enum KuboError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it assigned the content id {given:?} to {cid}")]
    OtherId { cid: String, given: String },
    #[error("it returned other bytes for {0}")]
    OtherBytes(String),
    #[error("neither kubo nor this node has {0}")]
    Lost(String),
    #[error("the node is stopping")]
    Stopping,
}

impl From<KuboError> for BlobError {
    fn from(error: KuboError) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

impl IpfsBlobs {
    /// Opens the folders. kubo need not run.
    ///
    /// # Errors
    /// [`BlobError::File`], or [`BlobError::Unavailable`] if the HTTP client cannot be created.
    pub fn open(settings: Settings<'_>) -> Result<Self, BlobError> {
        let Settings { dir, copies, api_url, pin_name, breaker, is_named, backplane } = settings;
        let api = Api::new(api_url, breaker).map_err(KuboError::from)?;
        Ok(Self(Arc::new(Inner {
            own: LocalBlobs::open(dir)?,
            copies: Fetched::open(copies, BLOB_COPIES_MAX_BYTES)?,
            kubo: Arc::new(Kubo { api, pin_name }),
            is_named,
            backplane,
            fetches: SingleFlight::default(),
            unremoved: Mutex::default(),
        })))
    }
}

impl Inner {
    /// Runs a call on the backplane and waits for it. Every call has a deadline.
    fn ask<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Kubo>) -> F) -> Result<T, BlobError>
    where
        F: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.kubo));
        let (answer, wait) = mpsc::channel();
        self.backplane.spawn(async move {
            // The caller waits for the result.
            let _ = answer.send(work.await);
        });
        match wait.recv() {
            Ok(answer) => Ok(answer.map_err(KuboError::from)?),
            Err(_) => Err(KuboError::Stopping.into()),
        }
    }

    fn add(&self, cid: &str, bytes: Bytes) -> Result<(), BlobError> {
        let given = self.ask(|kubo| async move { kubo.api.add(bytes, &kubo.pin_name).await })?;
        if given == cid {
            return Ok(());
        }
        Err(KuboError::OtherId { cid: cid.to_owned(), given }.into())
    }

    fn pin(&self, cid: &str) -> Result<bool, BlobError> {
        let wanted = cid.to_owned();
        self.ask(|kubo| async move { kubo.api.pin(&wanted, &kubo.pin_name).await })
    }

    /// This node's copy. A damaged copy counts as missing, but is reported.
    fn local(&self, cid: &str) -> Result<(Option<Bytes>, bool), BlobError> {
        match self.own.get(cid) {
            Ok(None) => Ok((self.copies.get(cid)?, false)),
            Err(BlobError::Damaged { .. }) => Ok((None, true)),
            found => Ok((found?, false)),
        }
    }

    /// Fetches a blob, or waits for a fetch in progress.
    fn fetch(&self, cid: &str, is_own: bool) -> Result<Option<Bytes>, BlobError> {
        let fetched = self.fetches.run(&cid.to_owned(), || {
            self.fetch_anew(cid, is_own).map_err(|error| match error {
                BlobError::Unavailable(cause) => cause,
                error => Arc::new(error),
            })
        });
        fetched.map_err(BlobError::Unavailable)
    }

    fn fetch_anew(&self, cid: &str, is_own: bool) -> Result<Option<Bytes>, BlobError> {
        let wanted = cid.to_owned();
        let Some(bytes) = self.ask(|kubo| async move { kubo.api.cat(&wanted).await })? else {
            return Ok(None);
        };
        if cid::of(&bytes) != cid {
            return Err(KuboError::OtherBytes(cid.to_owned()).into());
        }
        let kept = if is_own { self.own.put_as(cid, &bytes) } else { self.copies.put(cid, &bytes) };
        // The caller gets the bytes all the same.
        if let Err(error) = kept.and_then(|()| self.pin(cid)) {
            tracing::warn!(%error, cid, "a fetched blob could not be stored locally");
        }
        Ok(Some(bytes))
    }

    fn named(&self, cid: &str) -> Result<bool, BlobError> {
        (self.is_named)(cid).map_err(|cause| BlobError::Unavailable(cause.into()))
    }

    /// See the module's documentation.
    fn remove(&self, cid: &str) -> Result<bool, BlobError> {
        let named = |cid: &str| self.named(cid);
        if named(cid)? {
            return Ok(false);
        }
        let wanted = cid.to_owned();
        let was_pinned = self.ask(|kubo| async move { kubo.api.unpin(&wanted).await })?;
        // If it is not known, the blob stays pinned.
        match named(cid) {
            Ok(false) => {}
            named => {
                if was_pinned {
                    self.ensure_pinned(cid)?;
                }
                return named.map(|_| false);
            }
        }
        let was_copied = self.copies.remove(cid)?;
        Ok(self.own.remove(cid)? || was_copied || was_pinned)
    }

    /// Ensures that kubo has a blob and pins it.
    fn ensure_pinned(&self, cid: &str) -> Result<(), BlobError> {
        if self.pin(cid)? {
            return Ok(());
        }
        match self.local(cid)?.0 {
            Some(bytes) => self.add(cid, bytes),
            None => Err(KuboError::Lost(cid.to_owned()).into()),
        }
    }
}

impl Blobs for IpfsBlobs {
    fn put_as(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError> {
        self.0.own.put_as(cid, bytes)?;
        self.0.copies.remove(cid)?;
        self.0.add(cid, bytes.clone())
    }

    fn confirm(&self, cid: &str) -> Result<(), BlobError> {
        self.0.ensure_pinned(cid)
    }

    fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError> {
        if !cid::is_valid(cid) {
            return Ok(None);
        }
        let (found, is_damaged) = self.0.local(cid)?;
        if found.is_some() {
            return Ok(found);
        }
        if is_damaged {
            tracing::warn!(cid, "a blob is damaged and is fetched again");
        }
        match self.0.fetch(cid, is_damaged) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            _ if is_damaged => Err(BlobError::Damaged { cid: cid.to_owned() }),
            nothing => nothing,
        }
    }

    fn remove(&self, cid: &str) -> Result<bool, BlobError> {
        if !cid::is_valid(cid) {
            return Ok(false);
        }
        let removed = self.0.remove(cid);
        let mut unremoved = self.0.unremoved.lock();
        if removed.is_ok() {
            unremoved.remove(cid);
        } else if unremoved.len() < START_CLEANING_MAX {
            unremoved.insert(cid.to_owned());
        }
        removed
    }

    fn retry_removals(&self) {
        let again = self.0.unremoved.lock().clone();
        for cid in again {
            // A held blob is named soon, or removed by its holder.
            if let Some(Err(error)) = self.holds().unless_held(&cid, || self.remove(&cid)) {
                tracing::debug!(%error, cid, "an unreferenced blob still cannot be removed");
                return;
            }
        }
    }

    fn list(&self, max: usize) -> Result<Vec<String>, BlobError> {
        let mut cids: BTreeSet<_> = self.0.own.list(max)?.into_iter().collect();
        cids.extend(self.0.copies.list());
        Ok(cids.into_iter().take(max).collect())
    }

    fn repair(&self, is_named: &HashSet<String>) -> Result<usize, BlobError> {
        let pins = self.0.ask(|kubo| async move { kubo.api.pins().await })?;
        let mut repaired = 0;
        for cid in self.list(usize::MAX)? {
            if !is_named.contains(&cid) || pins.contains(&cid) {
                continue;
            }
            let _hold = self.holds().hold(&cid);
            // It may have been removed meanwhile.
            if self.0.named(&cid)? {
                self.0.ensure_pinned(&cid)?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }

    fn check(&self) -> Result<(), BlobError> {
        self.0.own.check()?;
        self.0.ask(|kubo| async move { kubo.api.check().await })
    }

    fn holds(&self) -> &Holds {
        self.0.own.holds()
    }
}

#[cfg(test)]
mod tests;
