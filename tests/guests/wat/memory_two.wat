;; Has two memories and grows both until refused.
(module
  (memory $a (export "memory") 1)
  (memory $b 1)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (memory.grow $a (i32.const 16)) (i32.const -1))))
    (loop $more
      (br_if $more (i32.ne (memory.grow $b (i32.const 16)) (i32.const -1))))))
