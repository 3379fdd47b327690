;; Two functions tail-call each other without end.
(module
  (func $ping (return_call $pong))
  (func $pong (return_call $ping))
  (func (export "_start")
    (call $ping)))
