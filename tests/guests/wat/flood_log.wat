;; Calls log_info with 64 KiB without end.
(module
  (import "env" "log_info" (func $log_info (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0x78) (i32.const 65536))
    (loop $again
      (call $log_info (i32.const 0) (i32.const 65536))
      (br $again))))
