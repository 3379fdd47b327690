//! https: who is trusted, what is spoken, and that sessions stay with their namespace.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// For the name `tls.test`, for a hundred years, and for nothing but these tests.
const CERTIFICATE: &[u8] = include_bytes!("cert.pem");
const KEY: &[u8] = include_bytes!("key.pem");

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE).unwrap()
}

/// A TLS server that answers one request a connection, and what it noticed of each.
struct TlsServer {
    port: u16,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

async fn start(protocol: &[u8]) -> TlsServer {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = TlsServer {
        port: listener.local_addr().unwrap().port(),
        handshakes: Arc::default(),
        requests: Arc::default(),
    };
    let (handshakes, requests) = (Arc::clone(&server.handshakes), Arc::clone(&server.requests));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            handshakes.lock().unwrap().extend(stream.get_ref().1.handshake_kind());
            if let Ok(Some(request)) = read_request(&mut stream).await {
                requests.lock().unwrap().push(request);
                let _ = stream
                    .write_all(OK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
                    .await;
            }
            let _ = stream.shutdown().await;
        }
    });
    server
}

fn trusting_egress(roots: &[CertificateDer<'static>]) -> Egress {
    let rules = Rules { allow: vec!["127.0.0.1".parse().unwrap()], ..nothing_special() };
    let mut tls = trusting(roots);
    tls.alpn_protocols = super::super::tls::config().unwrap().alpn_protocols;
    Egress::with(rules, Arc::new(here), Ok(tls).into(), Handle::current())
}

#[tokio::test]
async fn https_is_verified() {
    let server = start(b"http/1.1").await;
    let url = |host: &str| get(format!("https://{host}:{}/", server.port));
    let egress = trusting_egress(&[certificate()]);
    assert_eq!(egress.run(url("tls.test")).await.unwrap().status, 200);
    for host in ["other.test", "127.0.0.1"] {
        let message = egress.refused(url(host)).await;
        assert!(message.starts_with("UNAVAILABLE TLS: invalid peer certificate"), "{message}");
    }
    let message = trusting_egress(&[]).refused(url("tls.test")).await;
    assert_eq!(message, "UNAVAILABLE TLS: invalid peer certificate: UnknownIssuer");
    let plain = Server::start(|_| Reply::Close(OK.into())).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = silent.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let message = egress.refused(get(format!("https://tls.test:{}/", address.port()))).await;
    assert!(message.starts_with("UNAVAILABLE TLS: "), "{message}");
    assert_eq!(plain.requests().len(), 0);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_wants_it() {
    let server = start(b"h2").await;
    let egress = trusting_egress(&[certificate()]);
    // This server does not know it, but sees how the client begins.
    egress.run(get(format!("https://tls.test:{}/", server.port))).await.unwrap_err();
    let first = server.requests.lock().unwrap().remove(0);
    assert!(first.starts_with("PRI * HTTP/2.0\r\n\r\n"), "{first:?}");
}

#[tokio::test]
async fn sessions_are_resumed_within_a_namespace_alone() {
    let server = start(b"http/1.1").await;
    let egress = trusting_egress(&[certificate()]);
    for of in ["a", "a", "b", "b", "a"] {
        egress.fetch_as(of, get(format!("https://tls.test:{}/", server.port))).await.unwrap();
    }
    use HandshakeKind::{Full, Resumed};
    assert_eq!(*server.handshakes.lock().unwrap(), [Full, Resumed, Full, Resumed, Resumed]);
}
