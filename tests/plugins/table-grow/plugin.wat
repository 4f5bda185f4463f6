;; Grows a table for ever, by 10,000 elements. In text form: C has no tables.
(module
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "run")
    (loop (br_if 0 (i32.ne (table.grow $table (ref.null func) (i32.const 10000)) (i32.const -1)))))
  ;; Would crash where growing fails: the trip must come first.
  (func (export "past_declared_maximum")
    (if (i32.ne (table.grow $bounded (ref.null func) (i32.const 11)) (i32.const -1)) (then unreachable)))
  (table $bounded 0 10 funcref))
