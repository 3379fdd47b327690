;; Its start section grows the memory until refused.
(module
  (memory (export "memory") 1)
  (func $grow_in_start
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))))
  (start $grow_in_start)
  (func (export "_start")))
