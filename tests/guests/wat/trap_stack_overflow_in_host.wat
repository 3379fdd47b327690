;; Recurses until just before the stack ends, with a host call at every depth.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $recurse_with_host_calls
    (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 0)))
    (call $recurse_with_host_calls)
    (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 0))))
  (func (export "_start")
    (call $recurse_with_host_calls)))
