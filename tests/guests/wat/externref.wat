;; Uses a table of host references.
(module
  (table 1 externref)
  (func (export "_start")
    (table.set (i32.const 0) (ref.null extern))))
