;; Executes unreachable inside named functions.
(module
  (func $deep_inside
    unreachable)
  (func $in_between
    (call $deep_inside)
    (nop))
  (func (export "_start")
    (call $in_between)))
