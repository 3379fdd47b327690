;; Wants 300 MB of memory from the start.
(module
  (memory (export "memory") 4800)
  (func (export "_start")))
