;; Divides by zero.
;;
;; Expected: Trapped(DivisionByZero).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.div_u (i32.const 1) (i32.const 0))))
