//! Telling every part of a process to leave, and how long it may take.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The longest time for leaving in order.
pub const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Asks for shutdown. Dropping it asks too, so that nothing outlives its owner.
#[derive(Debug)]
pub struct ShutdownTrigger {
    sender: watch::Sender<Option<Instant>>,
}

/// Hears of the shutdown. Clones hear the same one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    receiver: watch::Receiver<Option<Instant>>,
}

/// A trigger and what hears it.
#[must_use]
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (ShutdownTrigger { sender }, Shutdown { receiver })
}

impl ShutdownTrigger {
    /// Asks everyone to stop within `grace`. A second call can only shorten it.
    pub fn request(&self, grace: Duration) {
        // Later than that is as good as never, and no moment that the system could name.
        let deadline = Instant::now() + grace.min(GRACE_MAX);
        self.sender.send_if_modified(|current| {
            let sooner = current.is_none_or(|earlier| deadline < earlier);
            if sooner {
                *current = Some(deadline);
            }
            sooner
        });
    }

    /// Another listener.
    #[must_use]
    pub fn listen(&self) -> Shutdown {
        Shutdown {
            receiver: self.sender.subscribe(),
        }
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.request(Duration::ZERO);
    }
}

impl Shutdown {
    /// Waits until shutdown is asked for.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which asks too.
        let _ = self.receiver.wait_for(Option::is_some).await;
    }

    /// Waits until the time for leaving in order is over. Forever, if nobody asks.
    pub async fn expired(&mut self) {
        loop {
            self.requested().await;
            let deadline = (*self.receiver.borrow_and_update()).unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                // The deadline was moved; a closed channel can move it no more.
                Ok(()) = self.receiver.changed() => {}
            }
        }
    }

    /// Whether shutdown was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.receiver.borrow().is_some() || self.receiver.has_changed().is_err()
    }

    /// When leaving in order must have ended, once shutdown was asked for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        *self.receiver.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn grace_runs_from_the_request_and_can_be_shortened() {
        let (trigger, mut listener) = shutdown();
        assert!(!listener.is_requested());
        let start = Instant::now();
        trigger.request(Duration::from_secs(60));
        listener.requested().await;
        assert!(listener.is_requested());
        let waiting = tokio::spawn({
            let mut listener = listener.clone();
            async move { listener.expired().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        trigger.request(Duration::from_secs(2));
        trigger.request(Duration::from_secs(90));
        waiting.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_without_end_is_a_day() {
        let (trigger, mut listener) = shutdown();
        let start = Instant::now();
        trigger.request(Duration::MAX);
        listener.expired().await;
        assert_eq!(start.elapsed(), GRACE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_trigger_asks_too() {
        let (trigger, mut listener) = shutdown();
        let mut late = trigger.listen();
        drop(trigger);
        listener.requested().await;
        late.expired().await;
        assert!(late.is_requested());
    }
}
