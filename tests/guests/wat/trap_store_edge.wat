;; Stores 8 bytes across the memory's end.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (i64.store (i32.const 65532) (i64.const -1))))
