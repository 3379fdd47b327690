//! Whether a request went over a kept connection: such a one may have been closed by its server in the meantime.

use std::cell::Cell;

tokio::task_local! {
    static CONNECTED: Cell<bool>;
}

/// Runs a request; the second value says whether a new connection was begun for it.
pub(super) async fn watched<T>(request: impl Future<Output = T>) -> (T, bool) {
    CONNECTED
        .scope(Cell::new(false), async {
            let outcome = request.await;
            (outcome, CONNECTED.with(Cell::get))
        })
        .await
}

/// Told by the HTTP client, on the request's task, when it connects.
pub(super) fn connecting<R>(request: R) -> R {
    // A connection that nobody watches is begun by a request that has ended.
    let _ = CONNECTED.try_with(|connected| connected.set(true));
    request
}
