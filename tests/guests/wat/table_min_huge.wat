;; Wants a table of 100 million entries from the start.
(module
  (table 100000000 funcref)
  (func (export "_start")))
