;; Calls the WASI function that the first byte of stdin chooses (a fd_read, b fd_write, c fd_write_count, d
;; fd_read_count, e fd_write_vec, f fd_read_vec, g args_get, h args_sizes_get, i environ_get, j
;; environ_sizes_get, k clock_time_get, l clock_res_get, m random_get, n poll_oneoff, o fd_fdstat_get, p
;; fd_prestat_get, q path_open; _count = the pointer for the result, _vec = an iovec that points outside) with
;; the arguments that the second chooses (0 address beyond memory, 1 length beyond memory, 2 both add up to
;; more than 32 bits, 3 length -1).
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $clock_res_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 80) "\00\01\00\00\04\00\00\00")
  (func $write (param $fd i32) (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 99)))))
  (func (export "_start")
    (local $case i32)
    (local $ptr i32)
    (local $len i32)
    (local $errno i32)
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 2))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    ;; the second byte of stdin chooses the arguments
    (local.set $case (i32.sub (i32.load8_u (i32.const 17)) (i32.const 48)))
    (local.set $ptr (i32.const 32))
    (local.set $len (i32.const 4))
    (if (i32.eq (local.get $case) (i32.const 0)) (then (local.set $ptr (i32.const 0x10000000))))
    (if (i32.eq (local.get $case) (i32.const 1)) (then (local.set $len (i32.const 0x10000))))
    (if (i32.eq (local.get $case) (i32.const 2))
      (then (local.set $ptr (i32.const 0xfffffff0)) (local.set $len (i32.const 0x20))))
    (if (i32.eq (local.get $case) (i32.const 3)) (then (local.set $len (i32.const -1))))
    (if (i32.eq (local.get $case) (i32.const 4)) (then (local.set $ptr (i32.const 48))))
    (if (i32.eq (local.get $case) (i32.const 5))
      (then (local.set $ptr (i32.const 0)) (local.set $len (i32.const 0x10000))))
    (i32.store (i32.const 96) (local.get $ptr))
    (i32.store (i32.const 100) (local.get $len))
    (block $done
    (block $none
    (block $path_open_
    (block $fd_prestat_get_
    (block $fd_fdstat_get_
    (block $poll_oneoff_
    (block $random_get_
    (block $clock_res_get_
    (block $clock_time_get_
    (block $environ_sizes_get_
    (block $environ_get_
    (block $args_sizes_get_
    (block $args_get_
    (block $fd_read_vec_
    (block $fd_write_vec_
    (block $fd_read_count_
    (block $fd_write_count_
    (block $fd_write_
    (block $fd_read_
    (br_table $fd_read_ $fd_write_ $fd_write_count_ $fd_read_count_ $fd_write_vec_ $fd_read_vec_ $args_get_ $args_sizes_get_ $environ_get_ $environ_sizes_get_ $clock_time_get_ $clock_res_get_ $random_get_ $poll_oneoff_ $fd_fdstat_get_ $fd_prestat_get_ $path_open_ $none
      (i32.sub (i32.load8_u (i32.const 16)) (i32.const 97))))
    (local.set $errno (call $fd_read (i32.const 0) (local.get $ptr) (local.get $len) (i32.const 8)))
    (br $done))
    (local.set $errno (call $fd_write (i32.const 1) (local.get $ptr) (local.get $len) (i32.const 8)))
    (br $done))
    (local.set $errno (call $fd_write (i32.const 1) (i32.const 80) (i32.const 1) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $fd_read (i32.const 0) (i32.const 80) (i32.const 1) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $fd_write (i32.const 1) (i32.const 96) (i32.const 1) (i32.const 8)))
    (br $done))
    (local.set $errno (call $fd_read (i32.const 0) (i32.const 96) (i32.const 1) (i32.const 8)))
    (br $done))
    (local.set $errno (call $args_get (local.get $ptr) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $args_sizes_get (local.get $ptr) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $environ_get (local.get $ptr) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $environ_sizes_get (local.get $ptr) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $clock_time_get (i32.const 0) (i64.const 1) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $clock_res_get (i32.const 0) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $random_get (local.get $ptr) (local.get $len)))
    (br $done))
    (local.set $errno (call $poll_oneoff (local.get $ptr) (local.get $ptr) (i32.const 1) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $fd_fdstat_get (i32.const 1) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $fd_prestat_get (i32.const 3) (local.get $ptr)))
    (br $done))
    (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (local.get $ptr) (local.get $len) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (local.get $ptr)))
    (br $done))
      ;; the first byte is no letter of the list
      (call $proc_exit (i32.const 2)))
    (call $proc_exit (i32.add (i32.const 100) (local.get $errno)))))
