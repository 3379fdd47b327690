;; Keeps asking for memory after each refusal.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (drop (memory.grow (i32.const 64)))
      (br $again))))
