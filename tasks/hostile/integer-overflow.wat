;; Divides the smallest number by minus one, which has no result.
;;
;; Expected: Trapped(IntegerOverflow).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.div_s (i32.const 0x80000000) (i32.const -1))))
