;; Uses the garbage collection proposal.
(module
  (type $pair (struct (field (mut i64)) (field (mut i64))))
  (func (export "_start")
    (loop $again
      (drop (struct.new $pair (i64.const 1) (i64.const 2)))
      (br $again))))
