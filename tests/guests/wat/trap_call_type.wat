;; Calls a table entry of another type.
(module
  (type $other (func (param i64) (result f64)))
  (table funcref (elem $plain))
  (func $plain)
  (func (export "_start")
    (drop (call_indirect (type $other) (i64.const 1) (i32.const 0)))))
