;; A module whose function body does not type-check.
(module
  (func (export "_start")
    (drop (i32.add (i32.const 1) (i64.const 1)))))
