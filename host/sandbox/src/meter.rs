//! Fuel for work that the host does for a guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{Result, StoreContextMut, Trap};

use crate::host::Host;
use crate::rules;

/// Fuel that an attempt owes for calls whose functions see its [`Host`] and not its store: WASI's.
///
/// It is paid at the next call of `hearth:task` and when the attempt ends. Whoever owes more than is left
/// then ends as `Exhausted(Fuel)`, however else it would have ended. So a guest that owes more than it
/// was given in all is ruined, and the next call that carries something or the next tick of the epoch ends
/// it: when that is changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Debt(Arc<Account>);

#[derive(Debug)]
struct Account {
    owed: AtomicU64,
    /// All that the guest was given.
    fuel: AtomicU64,
}

impl Debt {
    pub(crate) fn new(fuel: u64) -> Self {
        Self(Arc::new(Account {
            owed: AtomicU64::new(0),
            fuel: AtomicU64::new(fuel),
        }))
    }

    /// A new stage with a fuel of its own.
    pub(crate) fn begin(&self, fuel: u64) {
        self.take();
        self.0.fuel.store(fuel, Ordering::Relaxed);
    }

    /// A call, before it is known what it carries.
    pub(crate) fn call(&self) {
        self.0.owed.fetch_add(rules::CALL_FUEL, Ordering::Relaxed);
    }

    /// What a call carries or costs beside that.
    ///
    /// # Errors
    ///
    /// [`Trap::OutOfFuel`] for the ruined.
    pub(crate) fn add(&self, fuel: u64) -> Result<()> {
        self.0.owed.fetch_add(fuel, Ordering::Relaxed);
        if self.is_ruined() {
            return Err(Trap::OutOfFuel.into());
        }
        Ok(())
    }

    pub(crate) fn is_ruined(&self) -> bool {
        self.0.owed.load(Ordering::Relaxed) > self.0.fuel.load(Ordering::Relaxed)
    }

    /// Forgets what is owed and says how much it was.
    pub(crate) fn take(&self) -> u64 {
        self.0.owed.swap(0, Ordering::Relaxed)
    }
}

/// Takes fuel for a call that carries `bytes`, and all that is owed.
///
/// # Errors
///
/// [`Trap::OutOfFuel`] when there is not enough, as in the guest's own code.
pub(crate) fn charge(store: &mut StoreContextMut<'_, Host>, bytes: usize) -> Result<()> {
    pay(store, rules::CALL_FUEL + bytes as u64)
}

/// Takes all that is owed.
///
/// # Errors
///
/// [`Trap::OutOfFuel`] when there is not enough.
pub(crate) fn settle(store: &mut StoreContextMut<'_, Host>) -> Result<()> {
    pay(store, 0)
}

fn pay(store: &mut StoreContextMut<'_, Host>, cost: u64) -> Result<()> {
    let cost = cost + store.data().debt.take();
    let left = store.get_fuel()?;
    store.set_fuel(left.saturating_sub(cost))?;
    if left < cost {
        return Err(Trap::OutOfFuel.into());
    }
    Ok(())
}
