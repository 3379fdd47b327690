;; A reactor whose handler takes a parameter.
(module
  (memory (export "memory") 1)
  (func (export "_initialize"))
  (func (export "orama_handle") (param i32)))
