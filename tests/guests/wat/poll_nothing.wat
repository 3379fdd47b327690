;; Polls no subscription, then 2^32 - 1 of them.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eqz (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 0) (i32.const 32)))
      (then (call $proc_exit (i32.const 98))))
    (if (i32.eqz (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const -1) (i32.const 32)))
      (then (call $proc_exit (i32.const 97))))))
