;; Calls itself without end. How deep a stack is depends on the machine, so this is never a result.
;;
;; Expected: Inconclusive(StackOverflow).
(module
  (memory (export "memory") 2)
  (func $down (param $depth i32) (result i32)
    ;; Not a tail call: something is left to do after it.
    (i32.add (call $down (i32.add (local.get $depth) (i32.const 1))) (local.get $depth)))
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and the body at 80.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain")
  (data (i32.const 80) "ok")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (drop (call $down (i32.const 0)))
    (i32.const 16)))
