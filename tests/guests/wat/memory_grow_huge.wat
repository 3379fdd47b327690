;; Asks for all 4 GiB at once, ignores the refusal, and ends.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 65535)))))
