;; Polls 20,000 clocks of one hour in one call.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "_start")
    (local $at i32)
    (local.set $at (i32.const 1024))
    (loop $next
      (i32.store (i32.add (local.get $at) (i32.const 16)) (i32.const 1))
      (i64.store (i32.add (local.get $at) (i32.const 24)) (i64.const 3600000000000))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 961024))))
    (drop (call $poll_oneoff (i32.const 1024) (i32.const 1000000) (i32.const 20000) (i32.const 32)))))
