;; Calls imports as its script says. The script is the hook's value: records of 32 bytes, each of which is read to
;; address 0 just before its call: an operation at 0, numbers at 4, 8, 12 and 16, and a wide one at 24.
;; What a call gives is kept as 8 bytes at 0x8000 + 8 times its place, for the first 512 places, then over again.
(module
  (import "fuseboard" "buffer_length" (func $buffer_length (param i32) (result i32)))
  (import "fuseboard" "buffer_read" (func $buffer_read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "output_write" (func $output_write (param i32 i32)))
  (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (import "fuseboard" "host_log" (func $host_log (param i32 i32 i32)))
  (import "fuseboard" "meter_remaining" (func $meter_remaining (param i32) (result i64)))
  (import "fuseboard" "host_http_request" (func $http_request (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_db_query" (func $db_query (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_db_exec" (func $db_exec (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_get" (func $kv_get (param i32 i32) (result i32)))
  (import "fuseboard" "host_kv_set" (func $kv_set (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_set_for" (func $kv_set_for (param i32 i32 i32 i32 i64) (result i32)))
  (import "fuseboard" "host_kv_delete" (func $kv_delete (param i32 i32) (result i32)))
  (import "fuseboard" "host_kv_increment" (func $kv_increment (param i32 i32 i64) (result i32)))
  (import "fuseboard" "host_call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)

  (func $main (local $at i32)
    (loop $next
      (if (i32.eq (call $buffer_read (i32.const 0) (local.get $at) (i32.const 0) (i32.const 32)) (i32.const 32))
        (then
          (i64.store
            (i32.add (i32.const 0x8000) (i32.and (i32.shr_u (local.get $at) (i32.const 2)) (i32.const 0xff8)))
            (call $act (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.load (i32.const 8))
              (i32.load (i32.const 12)) (i32.load (i32.const 16)) (i64.load (i32.const 24))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (br $next)))))

  (func $act (param $operation i32) (param $a i32) (param $b i32) (param $c i32) (param $d i32) (param $wide i64)
    (result i64)
    (block $16 (block $15 (block $14 (block $13 (block $12 (block $11 (block $10 (block $9 (block $8
    (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $16 (local.get $operation)))
    (return (i64.extend_i32_s (call $buffer_length (local.get $a)))))
    (return (i64.extend_i32_s (call $buffer_read (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (call $output_write (local.get $a) (local.get $b)) (return (i64.const 0)))
    (call $fail (local.get $a) (local.get $b)) (return (i64.const 0)))
    (call $host_log (local.get $a) (local.get $b) (local.get $c)) (return (i64.const 0)))
    (return (call $meter_remaining (local.get $a))))
    ;; A meter whose reading the script can't know: whether it is at most the wide number.
    (return (i64.extend_i32_u (i64.le_u (call $meter_remaining (local.get $a)) (local.get $wide)))))
    (return (i64.extend_i32_s
      (call $http_request (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (return (i64.extend_i32_s (call $db_query (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (return (i64.extend_i32_s (call $db_exec (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (return (i64.extend_i32_s (call $kv_get (local.get $a) (local.get $b)))))
    (return (i64.extend_i32_s (call $kv_set (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (return (i64.extend_i32_s (call $kv_set_for
      (local.get $a) (local.get $b) (local.get $c) (local.get $d) (local.get $wide)))))
    (return (i64.extend_i32_s (call $kv_delete (local.get $a) (local.get $b)))))
    (return (i64.extend_i32_s (call $kv_increment (local.get $a) (local.get $b) (local.get $wide)))))
    (return (i64.extend_i32_s (call $call (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (return (i64.extend_i32_s (memory.grow (local.get $a)))))
)
