//! A node against a coordinator that does what the test says.

mod realm;
mod refusals;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_net::shutdown::{ShutdownTrigger, shutdown};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{NodeError, run};
use crate::config::{Mode, NodeConfig, NodeStatus};
use crate::enrol::join;
use crate::pool;
use crate::pool::tests::fake::Fake;
use realm::Realm;

/// A node that runs.
struct Running {
    dir: PathBuf,
    trigger: ShutdownTrigger,
    task: JoinHandle<Result<(), NodeError>>,
    status: watch::Receiver<NodeStatus>,
}

fn config(dir: &Path) -> (NodeConfig, watch::Receiver<NodeStatus>) {
    let fake = Fake::new();
    let mode = Mode::Volunteer {
        addresses: Vec::new(),
        discover: false,
    };
    let pool = pool::tests::config(fake.launcher());
    let mut config = NodeConfig::new(mode, "volunteer", dir.to_owned(), pool);
    let (sender, status) = watch::channel(NodeStatus::default());
    config.status = Some(sender);
    (config, status)
}

impl Running {
    fn start((config, status): (NodeConfig, watch::Receiver<NodeStatus>)) -> Self {
        let (trigger, listener) = shutdown();
        Self {
            dir: config.state.clone(),
            trigger,
            task: tokio::spawn(run(config, listener)),
            status,
        }
    }

    /// A new member of the realm, running.
    async fn joined(realm: &Realm) -> Self {
        Self::start(config(&member(realm).await))
    }

    async fn until(&mut self, wanted: impl FnMut(&NodeStatus) -> bool) {
        tokio::time::timeout(Duration::from_secs(20), self.status.wait_for(wanted))
            .await
            .expect("the node does not come to it")
            .unwrap();
    }

    async fn stop(self, grace: Duration) -> Result<(), NodeError> {
        self.trigger.request(grace);
        tokio::time::timeout(grace + Duration::from_secs(15), self.task)
            .await
            .expect("the node does not stop")
            .unwrap()
    }

    /// As if the process had been killed.
    async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

/// Joins the realm in a directory of its own.
async fn member(realm: &Realm) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let dir = realm.home.path().join(format!("node-{number}"));
    join(&realm.token(), "volunteer", &dir).await.unwrap();
    dir
}

fn shared(realm: &Realm) -> Arc<realm::Shared> {
    Arc::clone(&realm.shared)
}
