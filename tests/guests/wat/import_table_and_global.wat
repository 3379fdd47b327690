;; Imports a table and a global.
(module
  (import "env" "table" (table 1 funcref))
  (import "env" "get_env" (global i32))
  (memory (export "memory") 1)
  (func (export "_start")))
