//! What the crate promises, seen from outside: every error by its type.

mod checkpoints;
mod directories;
mod enrolment;
mod invitations;
mod policies;
mod releases;
mod reports;
mod tls;

use hearth_wire::{
    Blob, Class, EngineRange, Manifest, Role, TaskLimits, TaskType, UnixSeconds, World,
};
use tempfile::TempDir;

use crate::*;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Some day in 2027. No test looks at the real clock.
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn later(seconds: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}

/// A realm in a directory of its own, made at [`NOW`].
struct Realm {
    root: TempDir,
    dir: RealmDir,
    authority: Authority,
}

fn options() -> InitOptions {
    InitOptions {
        name: "Testers".to_owned(),
        passphrase: None,
        addresses: vec![
            "127.0.0.1:7710".to_owned(),
            "hearth.example:7710".to_owned(),
        ],
        dns_names: vec!["hearth.example".to_owned()],
        ips: vec![[127, 0, 0, 1].into()],
        first_author: "Ada".to_owned(),
        engine_min: [48, 0, 8],
    }
}

impl Realm {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("realm");
        RealmDir::init(&path, options(), NOW).unwrap();
        let dir = RealmDir::open(&path).unwrap();
        Self {
            authority: dir.authority().unwrap(),
            dir,
            root,
        }
    }

    fn state(&self) -> PolicyState {
        self.dir.policy_state().unwrap()
    }

    fn author(&self) -> SigningKey {
        self.dir.author_key().unwrap()
    }

    fn invitation(&self, role: Role) -> Verified<hearth_wire::Invitation> {
        let token = self.dir.invite(role, DAY, NOW).unwrap();
        verify_invitation(&token, None, NOW).unwrap()
    }

    /// Somebody who joins at [`NOW`], as the commands and the coordinator do it.
    fn join(&self, role: Role, name: &str) -> NodeDir {
        let invitation = self.invitation(role);
        let joining = NodeDir::prepare(&self.root.path().join(name)).unwrap();
        let csr = joining.key().csr_pem().unwrap();
        let redemption = self
            .authority
            .grant(&invitation, &self.state(), &csr, name, NOW)
            .unwrap();
        joining
            .accept_enrolment(
                &invitation,
                &certificate_pem(&redemption.certificate),
                &self.authority.ca().pem(),
                &self.state().bundle_bytes(),
                NOW,
            )
            .unwrap()
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: "example".to_owned(),
        version: "1".to_owned(),
        realm: None,
        component: Blob::of(b"component"),
        world: World::Task,
        imports: vec!["hearth:task/context@0.1.0".to_owned()],
        limits: TaskLimits::default(),
        class: Class::Exact,
        task_type: TaskType::Processing,
        capabilities: Vec::new(),
        locations: Vec::new(),
        models: Vec::new(),
        engines: EngineRange {
            min: [48, 0, 8],
            max: [48, u16::MAX, u16::MAX],
        },
        not_before: UnixSeconds(NOW.0 - DAY),
        not_after: later(30 * DAY),
    }
}
