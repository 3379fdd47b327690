;; Exports main, but no _start.
(module
  (func (export "main")))
