;; Fails for each message, which therefore becomes a dead letter: `orama function test` reads there what a function has published.
(module
  (memory (export "memory") 1)
  (func (export "_start") (unreachable)))
