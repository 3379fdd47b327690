;; Imports several things that nobody provides, beside good ones.
(module
  (import "env" "no_such_function" (func (param i32) (result i32)))
  (import "host" "db_drop_everything" (func))
  (import "orama" "get_ENV" (func (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_teleport" (func (param i32) (result i32)))
  (import "gojs" "runtime.wasmExit" (func (param i32)))
  (import "" "empty" (func))
  (import "env" "get_env" (func (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
