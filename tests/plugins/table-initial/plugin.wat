;; Declares a table of 1,000,000 elements: 8 MB, but no page of memory. In text form: C has no tables.
(module
  (memory (export "memory") 1)
  (table 1000000 funcref)
  (func (export "run")))
