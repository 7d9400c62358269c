//! The limits of one attempt on memory: totals, not per memory.

use wasmtime::{ResourceLimiter, Result, bail};

use crate::rules;

/// Counts what all memories and all tables of an attempt hold together.
///
/// A refusal is what the guest is told (`memory.grow` gives −1) and the same on every machine. A growth
/// that was permitted here and then fails is the system's doing: it ends the attempt as a host
/// fault, so that a machine that is short of memory cannot change an answer.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes_max: u64,
    table_elements_max: u64,
    memory_bytes: u64,
    table_elements: u64,
    refused: bool,
    host_fault: Option<String>,
}

impl Limiter {
    pub(crate) fn new(limits: &hearth_wire::TaskLimits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes,
            table_elements_max: limits.table_elements.into(),
            memory_bytes: 0,
            table_elements: 0,
            refused: false,
            host_fault: None,
        }
    }

    /// Whether any growth was refused for the manifest's limits.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// What the system could not give although it was permitted.
    pub(crate) fn host_fault(&self) -> Option<&str> {
        self.host_fault.as_deref()
    }

    fn failed(&mut self, what: &str, error: &wasmtime::Error) -> Result<()> {
        let text = format!("{what}: {error:#}");
        self.host_fault = Some(text.clone());
        bail!("{text}")
    }
}

/// Takes `desired - current` from what is left; `None` if there is not enough.
fn take(used: u64, current: usize, desired: usize, max: u64) -> Option<u64> {
    let used = used.checked_add((desired as u64).checked_sub(current as u64)?)?;
    (used <= max).then_some(used)
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        match take(self.memory_bytes, current, desired, self.memory_bytes_max) {
            // Beyond the memory's own type: an ordinary answer to the guest, no limit of ours.
            Some(_) if maximum.is_some_and(|maximum| desired > maximum) => Ok(false),
            Some(used) => {
                self.memory_bytes = used;
                Ok(true)
            }
            None => {
                self.refused = true;
                Ok(false)
            }
        }
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // The one failure that comes without a question first: more than 32 bits can address.
        if error.to_string() == "memory growth exceeds memory type's limits" {
            self.refused = true;
            return Ok(());
        }
        self.failed("memory", &error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        match take(
            self.table_elements,
            current,
            desired,
            self.table_elements_max,
        ) {
            Some(_) if maximum.is_some_and(|maximum| desired > maximum) => Ok(false),
            Some(used) => {
                self.table_elements = used;
                Ok(true)
            }
            None => {
                self.refused = true;
                Ok(false)
            }
        }
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // Comes without a question only when the new size overflows.
        if error.to_string() == "overflow calculating new table size" {
            self.refused = true;
            return Ok(());
        }
        self.failed("table", &error)
    }

    fn instances(&self) -> usize {
        rules::CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        rules::TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        rules::MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(&hearth_wire::TaskLimits {
            memory_bytes: 1_000,
            table_elements: 10,
            ..hearth_wire::TaskLimits::default()
        })
    }

    #[test]
    fn limits_the_total_of_all_memories() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(400, 401, None).unwrap());
        assert!(limiter.refused());
        // A refused growth takes nothing.
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
    }

    #[test]
    fn the_type_of_a_memory_is_no_limit_of_ours() {
        let mut limiter = limiter();
        assert!(!limiter.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!limiter.refused());
    }

    #[test]
    fn what_was_permitted_and_fails_is_the_hosts_fault() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(
            limiter
                .memory_grow_failed(wasmtime::format_err!("mprotect: ENOMEM"))
                .is_err()
        );
        assert_eq!(limiter.host_fault(), Some("memory: mprotect: ENOMEM"));
    }
}
