;; Its start section never ends.
(module
  (func $spin_in_start
    (loop $again
      (br $again)))
  (start $spin_in_start)
  (func (export "_start")))
