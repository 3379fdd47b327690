;; One fd_write whose 1,024 iovecs each cover the same 1 MiB: 1 GiB asked from 1 MiB.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (func (export "_start")
    (local $at i32)
    (loop $next
      (i32.store (i32.add (i32.const 16) (local.get $at)) (i32.const 65536))
      (i32.store (i32.add (i32.const 20) (local.get $at)) (i32.const 0x100000))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 8192))))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1024) (i32.const 8)))))
