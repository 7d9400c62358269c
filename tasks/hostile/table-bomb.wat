;; Takes table elements until there are no more, then fails.
;;
;; Expected: Exhausted(Memory).
(module
  (memory (export "memory") 2)
  (table $table 1 funcref)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1024)) (i32.const -1))))
    (unreachable)))
