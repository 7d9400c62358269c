//! A new online key, after the old one may have been seen by others.

use super::*;

impl RealmDir {
    /// Makes a new online key. What the old one signed counts no more: open invitations end, and nodes
    /// refuse revocations by it once they have seen the new policy.
    ///
    /// Three files change. The key is written first and the policy, which puts it in force, last; until
    /// then inviting and revoking fail, and doing this again completes it.
    ///
    /// # Errors
    ///
    /// [`DirError`]; [`DirError::Policy`] for another realm's root key.
    pub fn rotate_online_key(
        &self,
        root: &SigningKey,
        now: UnixSeconds,
    ) -> Result<PolicyState, DirError> {
        let _lock = files::lock(&self.path)?;
        let kept = self.online_key()?;
        let (mut policy, mut list) = PolicyState::interrupted(
            &files::read(&self.file(POLICY))?,
            &files::read(&self.file(REVOCATIONS))?,
            self.file.realm,
            kept.public(),
        )?;
        // A key that is not in force yet is that of an interrupted change: it is completed.
        let online = if kept.public() == policy.online {
            SigningKey::generate()?
        } else {
            kept
        };
        policy.online = online.public();
        policy.version = policy.version.saturating_add(1);
        policy.issued = now;
        policy.expires = UnixSeconds(now.0.saturating_add(POLICY_SECONDS));
        // Members count anew from a policy that names another key, whatever the old one had signed.
        list.version = 1;
        list.issued = now;
        list.expires = UnixSeconds(now.0.saturating_add(REVOCATIONS_SECONDS));
        let state = PolicyState::from_bundle(
            PolicyBundle {
                policy: policy::sign(root, Domain::Policy, &policy),
                revocations: policy::sign(&online, Domain::Revocations, &list),
            },
            self.file.realm,
        )?;
        files::write(&self.file(ONLINE_KEY), online.to_pem().as_bytes())?;
        files::write(&self.file(REVOCATIONS), &state.revocations_bytes())?;
        files::write(&self.file(POLICY), &state.policy_bytes())?;
        Ok(state)
    }
}
