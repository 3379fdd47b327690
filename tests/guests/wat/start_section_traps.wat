;; Its start section traps.
(module
  (func $trap_in_start
    unreachable)
  (start $trap_in_start)
  (func (export "_start")))
