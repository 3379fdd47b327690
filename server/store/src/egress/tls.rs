//! TLS of guests' HTTP.

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// Sessions remembered of one host, to resume them.
const SESSIONS: usize = 8;

/// The protocols offered, the best first. Some services speak HTTP/2 alone.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A configuration that trusts what this machine trusts. Reads some hundred files, for milliseconds.
pub fn config() -> Result<ClientConfig, rustls::Error> {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
    };
    let verified = match builder()?.with_platform_verifier() {
        Ok(verified) => verified,
        Err(error) => {
            tracing::warn!(%error, "this machine trusts no certificates (is the package ca-certificates missing?); functions cannot fetch https");
            builder()?.with_root_certificates(RootCertStore::empty())
        }
    };
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// A configuration that trusts nothing, for clients that speak plain HTTP.
pub fn no_trust() -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// [`config`] for one tenant: sessions that one made are not resumed by another.
pub(super) fn own(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config
}
