;; _start takes a parameter and returns a value.
(module
  (func (export "_start") (param i32) (result i32)
    (local.get 0)))
