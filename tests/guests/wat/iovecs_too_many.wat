;; fd_write and fd_read with 100,000 empty iovecs, then with 2^29 and 2^32 - 1.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func $both (param $count i32)
    (drop (call $fd_write (i32.const 1) (i32.const 16) (local.get $count) (i32.const 8)))
    (drop (call $fd_read (i32.const 0) (i32.const 16) (local.get $count) (i32.const 8))))
  (func (export "_start")
    (call $both (i32.const 100000))
    (call $both (i32.const 0x20000000))
    (call $both (i32.const -1))))
