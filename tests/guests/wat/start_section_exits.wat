;; Its start section calls proc_exit(4).
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $exit_in_start
    (call $proc_exit (i32.const 4)))
  (start $exit_in_start)
  (func (export "_start")))
