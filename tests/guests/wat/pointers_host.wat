;; Calls the host function that the first byte of stdin chooses (a get_caller_claim, b get_env, c get_secret, d
;; db_query, e db_execute, f db_query_v2, g db_execute_v2, h db_transaction, i db_query_batch, j cache_get, k
;; cache_set, l cache_delete, m cache_incr, n cache_incr_by, o http_fetch, p storage_put, q storage_get, r
;; pubsub_publish, s log_info, t log_error) with the arguments that the second chooses (0 address beyond
;; memory, 1 length beyond memory, 2 both add up to more than 32 bits, 3 length -1, 4 bytes that are not UTF-8,
;; 5 the whole memory, 6 good arguments).
(module
  (import "env" "get_caller_claim" (func $get_caller_claim (param i32 i32) (result i64)))
  (import "env" "get_env" (func $get_env (param i32 i32) (result i64)))
  (import "env" "get_secret" (func $get_secret (param i32 i32) (result i64)))
  (import "env" "db_query" (func $db_query (param i32 i32 i32 i32) (result i64)))
  (import "env" "db_execute" (func $db_execute (param i32 i32 i32 i32) (result i32)))
  (import "env" "db_query_v2" (func $db_query_v2 (param i32 i32 i32 i32) (result i64)))
  (import "env" "db_execute_v2" (func $db_execute_v2 (param i32 i32 i32 i32) (result i64)))
  (import "env" "db_transaction" (func $db_transaction (param i32 i32) (result i64)))
  (import "env" "db_query_batch" (func $db_query_batch (param i32 i32) (result i64)))
  (import "env" "cache_get" (func $cache_get (param i32 i32) (result i64)))
  (import "env" "cache_set" (func $cache_set (param i32 i32 i32 i32 i64)))
  (import "env" "cache_delete" (func $cache_delete (param i32 i32) (result i32)))
  (import "env" "cache_incr" (func $cache_incr (param i32 i32) (result i64)))
  (import "env" "cache_incr_by" (func $cache_incr_by (param i32 i32 i64) (result i64)))
  (import "env" "http_fetch" (func $http_fetch (param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)))
  (import "env" "storage_put" (func $storage_put (param i32 i32) (result i64)))
  (import "env" "storage_get" (func $storage_get (param i32 i32) (result i64)))
  (import "env" "pubsub_publish" (func $pubsub_publish (param i32 i32 i32 i32) (result i32)))
  (import "env" "log_info" (func $log_info (param i32 i32)))
  (import "env" "log_error" (func $log_error (param i32 i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "abcd")
  (data (i32.const 48) "\ff\fe\80\c0")
  (data (i32.const 64) "returned")
  (func $write (param $fd i32) (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 99)))))
  (func (export "_start")
    (local $case i32)
    (local $ptr i32)
    (local $len i32)
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
    (block $done
    (block $none
    (block $log_error_
    (block $log_info_
    (block $pubsub_publish_
    (block $storage_get_
    (block $storage_put_
    (block $http_fetch_
    (block $cache_incr_by_
    (block $cache_incr_
    (block $cache_delete_
    (block $cache_set_
    (block $cache_get_
    (block $db_query_batch_
    (block $db_transaction_
    (block $db_execute_v2_
    (block $db_query_v2_
    (block $db_execute_
    (block $db_query_
    (block $get_secret_
    (block $get_env_
    (block $get_caller_claim_
    (br_table $get_caller_claim_ $get_env_ $get_secret_ $db_query_ $db_execute_ $db_query_v2_ $db_execute_v2_ $db_transaction_ $db_query_batch_ $cache_get_ $cache_set_ $cache_delete_ $cache_incr_ $cache_incr_by_ $http_fetch_ $storage_put_ $storage_get_ $pubsub_publish_ $log_info_ $log_error_ $none
      (i32.sub (i32.load8_u (i32.const 16)) (i32.const 97))))
    (drop (call $get_caller_claim (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $get_env (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $get_secret (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_query (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_execute (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_query_v2 (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_execute_v2 (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_transaction (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $db_query_batch (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $cache_get (local.get $ptr) (local.get $len)))
    (br $done))
    (call $cache_set (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len) (i64.const 1))
    (br $done))
    (drop (call $cache_delete (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $cache_incr (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $cache_incr_by (local.get $ptr) (local.get $len) (i64.const 1)))
    (br $done))
    (drop (call $http_fetch (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $storage_put (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $storage_get (local.get $ptr) (local.get $len)))
    (br $done))
    (drop (call $pubsub_publish (local.get $ptr) (local.get $len) (local.get $ptr) (local.get $len)))
    (br $done))
    (call $log_info (local.get $ptr) (local.get $len))
    (br $done))
    (call $log_error (local.get $ptr) (local.get $len))
    (br $done))
      ;; the first byte is no letter of the list
      (call $proc_exit (i32.const 2)))
    (call $write (i32.const 1) (i32.const 64) (i32.const 8))))
