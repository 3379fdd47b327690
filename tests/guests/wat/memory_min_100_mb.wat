;; Wants 100 MB of memory from the start.
(module
  (memory (export "memory") 1600)
  (func (export "_start")))
