;; A component that does nothing: it exports no runner.
;;
;; Expected: Inconclusive(Unfit), naming hearth:task/runner.
(component)
