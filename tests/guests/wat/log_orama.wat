;; Calls log_info and log_error imported from orama.
(module
  (import "orama" "log_info" (func $log_info (param i32 i32)))
  (import "orama" "log_error" (func $log_error (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "first")
  (data (i32.const 32) "second")
  (func (export "_start")
    (call $log_info (i32.const 16) (i32.const 5))
    (call $log_error (i32.const 32) (i32.const 6))))
