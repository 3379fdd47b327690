;; Has a 64-bit memory.
(module
  (memory (export "memory") i64 1)
  (func (export "_start")
    (drop (memory.grow (i64.const 0x1000000)))))
