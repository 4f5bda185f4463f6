;; The start function never ends. In text form: C has no start functions.
(module
  (memory (export "memory") 1)
  (func $spin (loop (br 0)))
  (func (export "run"))
  (start $spin))
