;; Returns a media type that would start a second line in a protocol that has lines.
;;
;; Expected: Trapped(Contract).
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: ok, with the media type at 64 and the body at 96.
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\19\00\00\00" "\60\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain\r\nset-cookie: a")
  (data (i32.const 96) "ok")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.const 16)))
