//! The TLS configuration of `http_fetch`.

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// Sessions of one host that are kept for resumption.
const SESSIONS: usize = 8;

/// The offered protocols, preferred first. Some services support only HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A configuration with the machine's trust store. Reads some hundred files, which takes milliseconds.
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

/// A configuration without trusted certificates, for clients that use only plain HTTP.
pub fn no_trust() -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// [`config`] for one tenant: tenants do not share sessions.
pub(super) fn own(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config
}
