;; Fails with an error text of 4 MiB, in characters of two bytes behind one of one byte.
;;
;; Expected: Refused(Failed), its text cut to 4 KiB or less at a character boundary.
(module
  (memory (export "memory") 2)
  ;; Puts every input at the same place: what it is does not matter here.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; The result that is returned: error, failed, some text of 4 MiB and a byte at 131072.
  (data (i32.const 16) "\01\00\00\00" "\02\00\00\00" "\01\00\00\00" "\00\00\02\00\01\00\40\00")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (drop (memory.grow (i32.const 128)))
    (i32.store8 (i32.const 131072) (i32.const 0x78))
    (local.set $at (i32.const 131073))
    (loop $next
      ;; U+00E9 in UTF-8.
      (i32.store16 (local.get $at) (i32.const 0xa9c3))
      (local.set $at (i32.add (local.get $at) (i32.const 2)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 4325377))))
    (i32.const 16)))
