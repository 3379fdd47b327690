;; Loops without end and without host calls.
(module
  (func $spin_forever
    (loop $again
      (br $again)))
  (func (export "_start")
    (call $spin_forever)))
