;; Loads with address and offset that add up to more than 32 bits.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (i64.load offset=0xffffffff (i32.const 0xfffffff0)))))
