;; What a plugin looks like.
(module
  (import "fuseboard" "buffer_length" (func $length (param i32) (result i32)))
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "run") (local $size i32)
    (local.set $size (call $length (i32.const 0)))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0) (local.get $size)))
    (call $write (i32.const 0) (local.get $size))))
