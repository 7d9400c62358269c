use hearth_wire::codec::{decode, encode};
use hearth_wire::envelope::Domain;
use hearth_wire::{AuthorEntry, RealmId, Release, Signature, limits};
use proptest::prelude::*;

use super::*;

fn refusal(release: &Release, trust: &Trust, now: UnixSeconds) -> ReleaseError {
    verify_release(release, trust, now).unwrap_err()
}

#[test]
fn a_trusted_author_s_release_is_verified_by_every_member() {
    let realm = Realm::new();
    let release = sign_release(&manifest(), &realm.author()).unwrap();
    let node = realm.join(Role::Node, "node");
    for trust in [realm.dir.trust().unwrap(), node.policy_state().trust()] {
        let verified = verify_release(&release, &trust, NOW).unwrap();
        assert_eq!(verified.id, release.id());
        assert_eq!(verified.manifest, manifest());
        assert_eq!(verified.author, realm.author().id());
        assert_eq!(verified.author_name, "Ada");
    }
}

#[test]
fn a_personal_author_is_trusted_on_its_machine_only() {
    let key = SigningKey::generate().unwrap();
    let release = sign_release(&manifest(), &key).unwrap();
    let verified = verify_release(&release, &Trust::personal(key.public()), NOW).unwrap();
    assert_eq!(verified.author_name, "you");
    let trust = Realm::new().state().trust();
    assert!(matches!(
        refusal(&release, &trust, NOW),
        ReleaseError::UnknownAuthor { keys } if keys == [key.id()]
    ));
    let trust = trust.with_personal(key.public());
    assert!(verify_release(&release, &trust, NOW).is_ok());
}

#[test]
fn unsigned_and_foreign_authors_are_refused() {
    let trust = Realm::new().state().trust();
    let mut release = Release::unsigned(&manifest());
    assert_eq!(refusal(&release, &trust, NOW), ReleaseError::Unsigned);
    let stranger = SigningKey::generate().unwrap();
    release.signatures.push(Signature {
        key: stranger.id(),
        bytes: stranger.sign(Domain::Release, &release.manifest),
    });
    assert!(matches!(
        refusal(&release, &trust, NOW),
        ReleaseError::UnknownAuthor { .. }
    ));
}

#[test]
fn a_signature_of_another_kind_does_not_count() {
    let realm = Realm::new();
    let (key, mut release) = (realm.author(), Release::unsigned(&manifest()));
    release.signatures.push(Signature {
        key: key.id(),
        bytes: key.sign(Domain::Policy, &release.manifest),
    });
    assert!(matches!(
        refusal(&release, &realm.state().trust(), NOW),
        ReleaseError::BadSignature { author } if author == "Ada"
    ));
}

#[test]
fn one_bad_signature_of_a_known_author_is_one_too_many() {
    let realm = Realm::new();
    let other = SigningKey::generate().unwrap();
    let state = realm
        .dir
        .update_policy(None, NOW, |policy| {
            policy.authors.push(AuthorEntry {
                key: other.public(),
                name: "Grace".to_owned(),
                not_after: later(DAY),
            });
        })
        .unwrap();
    let mut release = sign_release(&manifest(), &realm.author()).unwrap();
    release.signatures.push(Signature {
        key: other.id(),
        bytes: vec![0; 64],
    });
    assert!(matches!(
        refusal(&release, &state.trust(), NOW),
        ReleaseError::BadSignature { author } if author == "Grace"
    ));
    // An unknown co-signer neither helps nor hurts.
    release.signatures[1].key = SigningKey::generate().unwrap().id();
    assert!(verify_release(&release, &state.trust(), NOW).is_ok());
}

#[test]
fn a_revoked_key_counts_only_where_it_has_signed() {
    let realm = Realm::new();
    let other = SigningKey::generate().unwrap();
    let entry = AuthorEntry {
        key: other.public(),
        name: "Grace".to_owned(),
        not_after: later(DAY),
    };
    let revoked = |policy: &mut hearth_wire::Policy| policy.revoked_authors.push(other.id());
    let state = realm.dir.update_policy(None, NOW, revoked).unwrap();
    let mut release = sign_release(&manifest(), &realm.author()).unwrap();
    // Only the key's name, put in front by somebody else.
    let garbage = Signature {
        key: other.id(),
        bytes: vec![0; 64],
    };
    release.signatures.insert(0, garbage);
    let verified = verify_release(&release, &state.trust(), NOW).unwrap();
    assert_eq!(verified.author, realm.author().id());
    assert_eq!(verified.release.signatures, release.signatures[1..]);
    // What was verified is told apart, the author's signature first, for whoever keeps the release.
    let state = realm
        .dir
        .update_policy(None, NOW, |policy| {
            policy.revoked_authors.clear();
            policy.authors.push(AuthorEntry {
                not_after: UnixSeconds(NOW.0 - 1),
                ..entry
            });
        })
        .unwrap();
    release.signatures[0].bytes = other.sign(Domain::Release, &release.manifest);
    let verified = verify_release(&release, &state.trust(), NOW).unwrap();
    let keys: Vec<_> = verified.release.signatures.iter().map(|s| s.key).collect();
    assert_eq!(keys, [realm.author().id(), other.id()]);
    // Its own signature counts.
    let state = realm.dir.update_policy(None, NOW, revoked).unwrap();
    assert_eq!(
        refusal(&release, &state.trust(), NOW),
        ReleaseError::RevokedAuthor { key: other.id() }
    );
}

#[test]
fn times_of_the_manifest_are_kept() {
    let realm = Realm::new();
    let trust = realm.state().trust();
    let release = sign_release(&manifest(), &realm.author()).unwrap();
    let before = UnixSeconds(manifest().not_before.0 - 1);
    assert!(matches!(
        refusal(&release, &realm.dir.trust().unwrap(), before),
        ReleaseError::NotYetValid { not_before } if not_before == manifest().not_before
    ));
    let mut short = manifest();
    short.not_after = later(5);
    let release = sign_release(&short, &realm.author()).unwrap();
    assert!(verify_release(&release, &trust, later(5)).is_ok());
    assert_eq!(
        refusal(&release, &trust, later(6)),
        ReleaseError::Expired {
            not_after: later(5)
        }
    );
}

#[test]
fn a_release_bound_to_another_realm_is_refused() {
    let realm = Realm::new();
    let mut bound = manifest();
    bound.realm = Some(realm.dir.realm());
    let release = sign_release(&bound, &realm.author()).unwrap();
    assert!(verify_release(&release, &realm.state().trust(), NOW).is_ok());
    assert!(matches!(
        refusal(&release, &Trust::personal(realm.author().public()), NOW),
        ReleaseError::WrongRealm { .. }
    ));
    bound.realm = Some(RealmId::default());
    let release = sign_release(&bound, &realm.author()).unwrap();
    assert_eq!(
        refusal(&release, &realm.state().trust(), NOW),
        ReleaseError::WrongRealm {
            release: RealmId::default()
        }
    );
}

#[test]
fn revoked_authors_and_releases_do_not_run_even_if_pinned() {
    let realm = Realm::new();
    let release = sign_release(&manifest(), &realm.author()).unwrap();
    let id = release.id();
    realm
        .dir
        .revoke(NOW, |list| list.releases.push(id))
        .unwrap();
    assert_eq!(
        refusal(&release, &realm.dir.trust().unwrap(), NOW),
        ReleaseError::RevokedRelease { release: id }
    );
    let key = realm.author().id();
    realm
        .dir
        .revoke(NOW, |list| {
            list.releases.clear();
            list.authors.push(key);
        })
        .unwrap();
    let revoked = ReleaseError::RevokedAuthor { key };
    assert_eq!(refusal(&release, &realm.dir.trust().unwrap(), NOW), revoked);
    realm.dir.revoke(NOW, |list| list.authors.clear()).unwrap();
    assert!(verify_release(&release, &realm.dir.trust().unwrap(), NOW).is_ok());
    let state = realm
        .dir
        .update_policy(None, NOW, |policy| policy.revoked_authors.push(key))
        .unwrap();
    assert_eq!(refusal(&release, &state.trust(), NOW), revoked);
}

#[test]
fn an_author_s_entry_ends() {
    let realm = Realm::new();
    let state = realm
        .dir
        .update_policy(None, NOW, |policy| policy.authors[0].not_after = later(5))
        .unwrap();
    let release = sign_release(&manifest(), &realm.author()).unwrap();
    assert!(verify_release(&release, &state.trust(), later(5)).is_ok());
    assert!(matches!(
        refusal(&release, &state.trust(), later(6)),
        ReleaseError::AuthorExpired { .. }
    ));
}

/// Promise 4: a frozen or expired policy stops volunteers; the owner's own local host goes on.
#[test]
fn an_expired_policy_stops_volunteers_but_not_pinned_authors() {
    let realm = Realm::new();
    let mut long = manifest();
    long.not_after = later(10 * POLICY_SECONDS);
    let release = sign_release(&long, &realm.author()).unwrap();
    let volunteer = realm.state().trust();
    let after_list = later(REVOCATIONS_SECONDS + 1);
    let after_policy = later(POLICY_SECONDS + 1);
    for now in [after_list, after_policy] {
        assert!(matches!(
            refusal(&release, &volunteer, now),
            ReleaseError::Policy(PolicyError::Expired { .. })
        ));
    }
    let verified = verify_release(&release, &volunteer, NOW).unwrap();
    assert_eq!(verified.valid_until, later(REVOCATIONS_SECONDS));
    let mut pinned_longer = realm.state().policy().authors.clone();
    pinned_longer[0].not_after = later(10 * POLICY_SECONDS);
    let owner = volunteer.clone().with_pinned(pinned_longer);
    let verified = verify_release(&release, &owner, after_policy).unwrap();
    assert_eq!(verified.valid_until, later(10 * POLICY_SECONDS));
    assert!(verify_release(&release, &realm.dir.trust().unwrap(), after_list).is_ok());
}

#[test]
fn limits_come_before_anything_else() {
    let realm = Realm::new();
    let trust = realm.state().trust();
    let mut release = sign_release(&manifest(), &realm.author()).unwrap();
    let signature = release.signatures[0].clone();
    release.signatures = vec![signature; limits::SIGNATURES_MAX + 1];
    assert!(matches!(
        refusal(&release, &trust, NOW),
        ReleaseError::TooLarge {
            what: "signatures",
            ..
        }
    ));
    release.manifest = vec![1; limits::MANIFEST_BYTES_MAX + 1];
    assert!(matches!(
        refusal(&release, &trust, NOW),
        ReleaseError::TooLarge {
            what: "manifest bytes",
            ..
        }
    ));
}

#[test]
fn a_signed_manifest_that_is_none_is_the_author_s_fault() {
    let realm = Realm::new();
    let (key, trust) = (realm.author(), realm.state().trust());
    let signed = |manifest: Vec<u8>| Release {
        signatures: vec![Signature {
            key: key.id(),
            bytes: key.sign(Domain::Release, &manifest),
        }],
        manifest,
    };
    assert!(matches!(
        refusal(&signed(b"nonsense".to_vec()), &trust, NOW),
        ReleaseError::Malformed(_)
    ));
    let mut trailing = encode(&manifest());
    trailing.push(0);
    assert!(matches!(
        refusal(&signed(trailing), &trust, NOW),
        ReleaseError::Malformed(_)
    ));
    let mut bad = manifest();
    bad.limits.fuel = 0;
    assert!(matches!(
        refusal(&signed(encode(&bad)), &trust, NOW),
        ReleaseError::Manifest(error) if error.field == "limits.fuel"
    ));
    assert_eq!(sign_release(&bad, &key).unwrap_err().field, "limits.fuel");
}

#[test]
fn every_changed_bit_of_a_release_is_noticed() {
    let realm = Realm::new();
    let trust = realm.state().trust();
    let bytes = encode(&sign_release(&manifest(), &realm.author()).unwrap());
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(release) = decode::<Release>(&changed, bytes.len()) {
            assert!(verify_release(&release, &trust, NOW).is_err(), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_release(manifest: Vec<u8>, signature: Vec<u8>) {
        let key = SigningKey::generate().unwrap();
        let release = Release {
            manifest,
            signatures: vec![Signature { key: key.id(), bytes: signature }],
        };
        prop_assert!(verify_release(&release, &Trust::personal(key.public()), NOW).is_err());
    }
}
