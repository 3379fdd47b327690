;; A module that exports a function it does not have.
(module
  (export "_start" (func 7)))
