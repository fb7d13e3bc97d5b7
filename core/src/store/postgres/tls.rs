//! TLS as libpq defines its modes, by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{TlsFiles, TlsMode};
use crate::error::{Error, Result};

type TlsResult<T> = std::result::Result<T, rustls::Error>;

/// The connector of one store; it is asked only if the mode wants TLS.
pub(super) fn connector(mode: TlsMode, files: &TlsFiles, direct: bool) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| Error::config("TLS cannot be set up").with_source(error);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust::new(mode, files, provider)?));
    let mut config = match client_identity(files)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
        None => builder.with_no_client_auth(),
    };
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn unreadable(option: &str, path: &Path, why: impl std::fmt::Display) -> Error {
    Error::config(format!("{option} {} cannot be read: {why}", path.display()))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(path) = &files.ca else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable("tls_ca", path, error))?;
    for certificate in read {
        let certificate = certificate.map_err(|error| unreadable("tls_ca", path, error))?;
        store.add(certificate).map_err(|error| unreadable("tls_ca", path, error))?;
    }
    if store.is_empty() {
        return Err(unreadable("tls_ca", path, "it holds no certificate in PEM form"));
    }
    Ok(store)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_identity(files: &TlsFiles) -> Result<Option<Identity>> {
    let (cert, key) = match (&files.cert, &files.key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => return Err(Error::config("tls_cert and tls_key go together; give both or none")),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|read| read.collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|error| unreadable("tls_cert", cert, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("tls_key", key, error))?;
    Ok(Some((chain, key)))
}

/// What a server has to prove.
#[derive(Debug)]
struct Trust {
    /// `None` takes any certificate.
    chain: Option<Arc<WebPkiServerVerifier>>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    fn new(mode: TlsMode, files: &TlsFiles, provider: Arc<CryptoProvider>) -> Result<Trust> {
        let chain = match mode {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => None,
            TlsMode::VerifyCa | TlsMode::VerifyFull => {
                let builder =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots(files)?), provider.clone());
                Some(builder.build().map_err(|_| {
                    Error::config("this system has no CA certificates to verify PostgreSQL with; set tls_ca, or sslmode in the DSN")
                })?)
            }
        };
        Ok(Trust { chain, name: mode == TlsMode::VerifyFull, provider })
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> TlsResult<ServerCertVerified> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last, after the chain.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
