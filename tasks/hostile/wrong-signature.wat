;; Calls a function as one of another type.
;;
;; Expected: Trapped(BadSignature).
(module
  (memory (export "memory") 2)
  (table 1 funcref)
  (elem (i32.const 0) $nothing)
  (func $nothing)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (call_indirect (result i32) (i32.const 0))))
