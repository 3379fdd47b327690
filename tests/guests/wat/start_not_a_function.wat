;; _start is a global.
(module
  (global (export "_start") i32 (i32.const 0)))
