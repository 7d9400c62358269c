;; Fails with a text that is not UTF-8.
;;
;; Expected: Trapped(Contract).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: error, failed, some text at 64.
  (data (i32.const 16) "\01\00\00\00" "\02\00\00\00" "\01\00\00\00" "\40\00\00\00\04\00\00\00")
  (data (i32.const 64) "\66\ff\fe\66")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.const 16)))
