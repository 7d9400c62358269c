;; Reports its progress 200,000 times, and nonsense at that. Progress changes no result.
;;
;; Expected: Returned(ok).
(module
  (import "hearth:task/progress@0.1.0" "report" (func $report (param i64 i32 i64)))
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and the body at 80.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain")
  (data (i32.const 80) "ok")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (local $left i32)
    (local.set $left (i32.const 200000))
    (loop $again
      (call $report (i64.const -1) (i32.const 1) (i64.extend_i32_u (local.get $left)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.const 16)))
