;; Recurses without end.
(module
  (func $recurse_forever (param $depth i64) (result i64)
    (i64.add (i64.const 1) (call $recurse_forever (i64.add (local.get $depth) (i64.const 1)))))
  (func (export "_start")
    (drop (call $recurse_forever (i64.const 0)))))
