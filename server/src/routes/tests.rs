//! The control plane as its clients see it: the real router on a real registry, real blobs and the real engine.

mod access;
mod deploy;
mod events;
mod functions;
mod logs;
mod operations;
mod secrets;

use super::*;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use orama_platform::FlushCores;
use orama_platform::auth::Authority;
use orama_platform::auth::{ApiKey, Role};
use orama_platform::disk::DiskReserve;
use orama_platform::events::NodeEvents;
use orama_platform::modules::Bounds;
use orama_platform::modules::Modules;
use orama_platform::records::Record;
use orama_platform::records::Records;
use orama_platform::registry::Registry;
use orama_platform::secrets::SecretStore;
use orama_platform::settings::Places;
use orama_platform::storage::ObjectStorage;
use orama_runtime::child::Program;
use orama_runtime::names::Namespace;
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig};
use orama_store::blob::Blobs;
use orama_store::blob::local::LocalBlobs;
use orama_store::database::Databases;
use orama_store::part::BlobPart;
use orama_store::pubsub::memory::MemoryPubSub;
use orama_store::settings::Backends;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use tower::ServiceExt;

/// A control plane in a folder of its own, with two namespaces.
struct Node {
    dir: tempfile::TempDir,
    app: Arc<App>,
    router: Router,
    /// A deploy key of namespace `a`.
    key: ApiKey,
    /// What the cores have gathered and not handed over.
    gathered: Arc<Mutex<Vec<Record>>>,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// Status and code of an error, whose shape is checked.
    fn error(&self) -> (u16, String) {
        let json = self.json();
        let known = ["error", "code", "retryable", "retry_after", "scope", "request_id", "hint"];
        let fields = json.as_object().unwrap();
        assert!(fields.keys().all(|field| known.contains(&field.as_str())), "{json}");
        assert!(json["retryable"].is_boolean(), "{json}");
        assert!(!json["error"].as_str().unwrap().is_empty());
        assert_eq!(json["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert_eq!(self.headers["content-type"], "application/json");
        (self.status.as_u16(), json["code"].as_str().unwrap().to_owned())
    }

    fn message(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn app(platform: Arc<Platform>, data: &Path) -> App {
    let limits = crate::shares::ShareSettings::default().limits(1024, 16);
    App {
        platform,
        metrics: Arc::default(),
        shares: crate::shares::Shares::new(limits, crate::shares::Rates::default()),
        sizes: Sizes::new(data.to_owned()),
        access_log: Arc::default(),
        metrics_apart: false,
        traces: None,
    }
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        for name in ["a", "b"] {
            registry.create_namespace(&Namespace::new(name).unwrap()).unwrap();
        }
        let (_, key) = registry.create_key(&Namespace::new("a").unwrap(), Role::Deploy).unwrap();
        let records = Records::open(dir.path()).unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&dir.path().join("blobs")).unwrap());
        let engine = Engine::new(&EngineConfig { instance_slots: 4, ..EngineConfig::default() }).unwrap();
        let artifact_key = ArtifactKey::open(&dir.path().join("artifact.key")).unwrap();
        let artifacts = ArtifactStore::open(&dir.path().join("artifacts"), artifact_key).unwrap();
        let compiler = Compiler::new(engine, artifacts, NonZeroUsize::MIN).unwrap();
        let modules = Modules::new(compiler, blobs.clone(), Bounds { bytes: 64 << 20, modules: 64 });
        let gathered: Arc<Mutex<Vec<Record>>> = Arc::default();
        let (cores, to) = (Arc::clone(&gathered), records.clone());
        let flush_cores: FlushCores = Arc::new(move || {
            let (cores, to) = (Arc::clone(&cores), to.clone());
            Box::pin(async move { to.submit(std::mem::take(&mut *cores.lock().unwrap())) })
        });
        let places = Places {
            home: dir.path().to_owned(),
            backends: Backends::default(),
            secrets_keys: None,
            secrets_key_file: None,
        };
        let secrets = Arc::new(SecretStore::open(&registry, &places, dir.path()).unwrap());
        let pubsub = Arc::new(MemoryPubSub::default());
        let backplane = tokio::runtime::Handle::current();
        let events = Arc::new(NodeEvents::open(dir.path(), &registry, pubsub, backplane).unwrap());
        let objects = Arc::new(LocalBlobs::open(&dir.path().join("objects")).unwrap());
        let disk = DiskReserve::new(dir.path().to_owned(), 0);
        let storage =
            ObjectStorage::new(registry.clone(), objects, disk.clone(), tokio::runtime::Handle::current());
        // No test of the routes runs SQL, so nothing is ever made from it.
        let (backplane, program) = (tokio::runtime::Handle::current(), Program::of_test("none"));
        let databases = dir.path().join("databases");
        let databases = Databases::open(&databases, &places.backends, &backplane, program).unwrap();
        let platform = Arc::new(Platform {
            disk,
            start_notes: Arc::default(),
            authority: Authority::new(registry.clone(), None),
            parts: vec![
                Arc::<NodeEvents>::clone(&events),
                Arc::new(records.clone()),
                Arc::new(registry.clone()),
                Arc::new(BlobPart { blobs: Arc::clone(&blobs), breaker: None }),
            ],
            registry,
            records,
            blobs,
            storage,
            databases,
            secrets,
            events,
            modules,
            flush_cores,
            runs_in: Arc::new(|_| Box::pin(async { false })),
            visitors: Arc::default(),
            peers: None,
            storing: Arc::new(tokio::sync::Semaphore::new(1)),
        });
        let app = Arc::new(app(platform, dir.path()));
        Self { router: router(Arc::clone(&app)), dir, app, key, gathered }
    }

    fn key(&self, namespace: &str, role: Role) -> ApiKey {
        self.app.platform.registry.create_key(&Namespace::new(namespace).unwrap(), role).unwrap().1
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if let Some(length) = parts.headers.get("content-length") {
            assert_eq!(length.to_str().unwrap(), body.len().to_string());
        }
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn call_as(&self, key: &ApiKey, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {}", key.reveal()));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn call(&self, method: Method, path: &str) -> Answer {
        self.call_as(&self.key, method, path).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).await
    }

    async fn deploy_as(&self, key: &ApiKey, path: &str, fields: &[(&str, &[u8])]) -> Answer {
        let (boundary, body) = multipart(fields);
        let request = Request::post(path)
            .header("x-api-key", key.reveal())
            .header("content-type", format!("multipart/form-data; boundary={boundary}"));
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    async fn deploy(&self, fields: &[(&str, &[u8])]) -> Answer {
        self.deploy_as(&self.key, "/v1/functions", fields).await
    }

    /// Deploys a module of namespace `a` that must be accepted.
    async fn deployed(&self, name: &str, wasm: &[u8]) -> Value {
        let answer = self.deploy(&[("name", name.as_bytes()), ("wasm", wasm)]).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()
    }

    fn blobs(&self) -> usize {
        self.app.platform.blobs.list(1000).unwrap().len()
    }

    fn artifacts(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("artifacts")).unwrap().count()
    }
}

fn multipart(fields: &[(&str, &[u8])]) -> (&'static str, Vec<u8>) {
    let boundary = "----test-boundary";
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if *name == "wasm" { "; filename=\"function.wasm\"" } else { "" };
        body.extend(
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
        );
        body.extend_from_slice(value);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    (boundary, body)
}

/// A command that does nothing. Each number gives another module.
fn command(n: u32) -> Vec<u8> {
    wat::parse_str(format!(
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (drop (i32.const {n}))))"
    ))
    .unwrap()
}
