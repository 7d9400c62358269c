;; Fails with a text that clears the screen, fakes a line of the host and turns the rest round.
;;
;; Expected: Refused(Failed), its text as it is; whoever shows it to people shows these by number.
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: error, failed, some text of 28 bytes at 64.
  (data (i32.const 16) "\01\00\00\00" "\02\00\00\00" "\01\00\00\00" "\40\00\00\00\1c\00\00\00")
  (data (i32.const 64) "\1b[2J\0ahearth: all is well\e2\80\ae.")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.const 16)))
