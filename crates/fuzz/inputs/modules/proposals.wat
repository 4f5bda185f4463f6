;; Proposals that the engine leaves off.
(module
  (memory (export "memory") i64 1)
  (memory 1 2 shared)
  (type $s (struct (field (mut i32))))
  (type $f (func))
  (tag $t (param i32))
  (func $f (type $f))
  (elem declare func $f)
  (func (export "run") (local v128)
    (call_ref $f (ref.func $f))
    (drop (struct.new $s (i32.const 1)))
    (local.set 0 (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))
    (block $caught (result i32)
      (try_table (catch $t $caught) (throw $t (i32.const 1)))
      (i32.const 0))
    drop
    (drop (i32.atomic.load 1 (i32.const 0)))))
