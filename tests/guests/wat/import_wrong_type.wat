;; Imports get_env and fd_write with other types than they have.
(module
  (import "env" "get_env" (func (param i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i64 i64 i64 i64) (result i64)))
  (memory (export "memory") 1)
  (func (export "_start")))
