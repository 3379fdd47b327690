;; A component around a good command.
(component
  (core module
    (func (export "_start"))))
