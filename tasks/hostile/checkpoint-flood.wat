;; Saves 20 checkpoints of 1 MiB and as many of 6 MiB, which are too large. Checkpoints change
;; no result.
;;
;; Expected: Returned(ok).
(module
  (import "hearth:task/checkpoint@0.1.0" "save" (func $save (param i32 i32)))
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and the body at 80.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain")
  (data (i32.const 80) "ok")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (local $left i32)
    (drop (memory.grow (i32.const 128)))
    (local.set $left (i32.const 20))
    (loop $again
      (call $save (i32.const 65536) (i32.const 1048576))
      (call $save (i32.const 65536) (i32.const 6291456))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.const 16)))
