;; Returns 8 MiB, twice what a manifest allows when it does not say.
;;
;; Expected: Exhausted(Output).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and a body of 8 MiB at 131072.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\00\00\02\00\00\00\80\00")
  (data (i32.const 64) "text/plain")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (drop (memory.grow (i32.const 128)))
    (i32.const 16)))
