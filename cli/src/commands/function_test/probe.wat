;; Reads or writes its namespace's cache for `orama function test`, which runs it before and after the function.
;; Standard input is a letter, the length of the key as a little-endian i32, the key, and the value.
;;   g KEY         cache_get
;;   s KEY VALUE   cache_set
;; Standard output is what the host function returned.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "orama" "cache_get" (func $cache_get (param i32 i32) (result i64)))
  (import "orama" "cache_set" (func $cache_set (param i32 i32 i32 i32 i64)))
  ;; The input is at 64 KiB, results are from 3 MiB on.
  (memory (export "memory") 48)
  (global $free (mut i32) (i32.const 3145728))

  (func (export "orama_alloc") (param $size i32) (result i32)
    (local $block i32)
    (local.set $block (global.get $free))
    (global.set $free (i32.add (global.get $free) (local.get $size)))
    (if (i32.lt_s
          (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))
          (i32.const 0))
      (then (return (i32.const 0))))
    (local.get $block))

  (func $write (param $result i64)
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $result) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $result)))
    (loop $again
      (if (i32.load (i32.const 4))
        (then
          (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
          (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
          (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
          (br $again)))))

  (func (export "_start")
    (local $end i32) (local $what i32) (local $size i32) (local $second i32) (local $rest i32)
    (local.set $end (i32.const 65536))
    (loop $again
      (i32.store (i32.const 0) (local.get $end))
      (i32.store (i32.const 4) (i32.sub (i32.const 3145728) (local.get $end)))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
      (local.set $end (i32.add (local.get $end) (i32.load (i32.const 8))))
      (br_if $again (i32.load (i32.const 8))))
    (local.set $what (i32.load8_u (i32.const 65536)))
    (local.set $size (i32.load (i32.const 65537)))
    (local.set $second (i32.add (i32.const 65541) (local.get $size)))
    (local.set $rest (i32.sub (local.get $end) (local.get $second)))
    (if (i32.eq (local.get $what) (i32.const 103)) ;; g
      (then (call $write (call $cache_get (i32.const 65541) (local.get $size)))))
    (if (i32.eq (local.get $what) (i32.const 115)) ;; s
      (then (call $cache_set
        (i32.const 65541) (local.get $size) (local.get $second) (local.get $rest) (i64.const 0))))))
