;; Grows its memory until refused, then traps, as an allocator that aborts does.
(module
  (memory (export "memory") 1)
  (func $allocate_forever
    (loop $more
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
        (then unreachable))
      (br $more)))
  (func (export "_start")
    (call $allocate_forever)))
