//! Detects whether a request used a kept connection, which its server may have closed meanwhile.

use std::cell::Cell;

tokio::task_local! {
    static CONNECTED: Cell<bool>;
}

/// Runs a request. The second value tells whether a new connection was opened for it.
pub(super) async fn watched<T>(request: impl Future<Output = T>) -> (T, bool) {
    CONNECTED
        .scope(Cell::new(false), async {
            let outcome = request.await;
            (outcome, CONNECTED.with(Cell::get))
        })
        .await
}

/// A hook that the HTTP client calls, on the request's task, when it connects.
pub(super) fn connecting<R>(request: R) -> R {
    // Without a watcher, the connection was opened by a request that has ended.
    let _ = CONNECTED.try_with(|connected| connected.set(true));
    request
}
