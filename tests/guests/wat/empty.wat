;; A command that does nothing.
(module
  (func (export "_start")))
