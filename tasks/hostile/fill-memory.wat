;; Burns compute in bulk operations, which engines charge by the byte and cannot interrupt.
;;
;; Expected: Exhausted(Fuel).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (loop $again
      (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536))
      (br $again))
    (unreachable)))
