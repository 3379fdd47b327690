;; Logs its input, up to 8 KiB of it, and traps if there is a "!" in it.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "env" "log_info" (func $log_info (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (local $length i32)
    (local $i i32)
    (loop $more
      (i32.store (i32.const 0) (i32.add (i32.const 1024) (local.get $length)))
      (i32.store (i32.const 4) (i32.sub (i32.const 8192) (local.get $length)))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (unreachable)))
      (local.set $length (i32.add (local.get $length) (i32.load (i32.const 8))))
      (br_if $more (i32.load (i32.const 8))))
    (call $log_info (i32.const 1024) (local.get $length))
    (block $none
      (loop $next
        (br_if $none (i32.eq (local.get $i) (local.get $length)))
        (if (i32.eq (i32.load8_u offset=1024 (local.get $i)) (i32.const 33))
          (then (unreachable)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))))
