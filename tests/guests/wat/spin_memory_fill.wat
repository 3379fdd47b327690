;; Fills 16 MiB again and again: long single instructions.
(module
  (memory (export "memory") 256)
  (func (export "_start")
    (loop $again
      (memory.fill (i32.const 0) (i32.const 0x5a) (i32.const 0x1000000))
      (br $again))))
