;; A WebAssembly core module. It would run, but it is no component.
;;
;; Expected: Inconclusive(Unfit).
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
