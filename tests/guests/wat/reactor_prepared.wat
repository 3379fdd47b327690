;; A reactor: _initialize counts to a million, keeps the sum in memory and a mark in a global, and the handler writes both and
;; changes them.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $fixed i32 (i32.const 16))
  (global $mark (mut i32) (i32.const 48))
  (func (export "_initialize") (local $left i32)
    (local.set $left (i32.const 1000000))
    (loop $more
      (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.extend_i32_u (local.get $left))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))
    (global.set $mark (i32.add (global.get $mark) (i32.const 1))))
  ;; Writes the mark, then "y" if the sum is right, then the first byte of the input.
  (func (export "orama_handle")
    (i32.store8 (global.get $fixed) (global.get $mark))
    (i32.store8 (i32.const 17)
      (select (i32.const 121) (i32.const 110) (i64.eq (i64.load (i32.const 32)) (i64.const 500000500000))))
    (i32.store (i32.const 0) (i32.const 18))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 3))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i64.store (i32.const 32) (i64.const 0))
    (global.set $mark (i32.const 63))))
