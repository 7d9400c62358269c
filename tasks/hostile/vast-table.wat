;; Wants ten million table elements before its first instruction.
;;
;; Expected: Inconclusive(Unfit), naming initial table elements.
(module
  (memory (export "memory") 2)
  (table 10000000 funcref)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and the body at 80.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain")
  (data (i32.const 80) "ok")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.const 16)))
