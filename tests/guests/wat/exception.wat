;; Throws an exception that nobody catches.
(module
  (tag $boom (param i32))
  (func (export "_start")
    (throw $boom (i32.const 1))))
