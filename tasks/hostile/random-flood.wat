;; Asks the host for random numbers without end, as many at once as it gives: work that is done outside
;; of the guest and must be charged to it.
;;
;; Expected: Exhausted(Fuel).
(module
  (import "wasi:random/insecure@0.2.0" "get-insecure-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 2)
  ;; Puts everything at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (loop $again
      (call $random (i64.const 65536) (i32.const 16))
      (br $again))
    (unreachable)))
