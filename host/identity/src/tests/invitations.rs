use hearth_wire::{RealmId, limits};
use proptest::prelude::*;

use super::*;

#[test]
fn an_invitation_survives_being_copied() {
    let realm = Realm::new();
    let token = realm.dir.invite(Role::Node, DAY, NOW).unwrap();
    assert!(token.starts_with("hearth-invite-"));
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    );
    let wrapped = format!("  {}\r\n{}\n", &token[..100], &token[100..]);
    let invitation = verify_invitation(&wrapped, Some(realm.dir.realm()), NOW).unwrap();
    assert_eq!(invitation.realm, realm.dir.realm());
    assert_eq!(invitation.role, Role::Node);
    assert_eq!(invitation.ca, realm.authority.ca().digest());
    assert_eq!(invitation.addresses, realm.dir.addresses());
    assert_eq!(invitation.expires, later(DAY));
    check_delegation(&invitation, &realm.state()).unwrap();
    let again = realm.dir.invite(Role::Node, DAY, NOW).unwrap();
    assert_ne!(again, token);
}

#[test]
fn expired_and_foreign_invitations_are_refused() {
    let (realm, other) = (Realm::new(), Realm::new());
    let token = realm.dir.invite(Role::Node, DAY, NOW).unwrap();
    assert!(verify_invitation(&token, None, later(DAY)).is_ok());
    assert_eq!(
        verify_invitation(&token, None, later(DAY + 1)).unwrap_err(),
        InvitationError::Expired {
            expires: later(DAY)
        }
    );
    assert_eq!(
        verify_invitation(&token, Some(other.dir.realm()), NOW).unwrap_err(),
        InvitationError::WrongRealm {
            found: realm.dir.realm(),
            expected: other.dir.realm(),
        }
    );
    let invitation = verify_invitation(&token, None, NOW).unwrap();
    assert_eq!(
        check_delegation(&invitation, &other.state()),
        Err(InvitationError::NotDelegated("another root key"))
    );
}

#[test]
fn what_cannot_be_given_is_not_given() {
    let realm = Realm::new();
    assert!(matches!(
        realm.dir.invite(Role::Coordinator, DAY, NOW),
        Err(DirError::Enrol(EnrolError::Role(Role::Coordinator)))
    ));
    for seconds in [0, limits::INVITATION_SECONDS_MAX + 1] {
        assert!(matches!(
            realm.dir.invite(Role::Node, seconds, NOW),
            Err(DirError::Option { .. })
        ));
    }
}

/// Someone who makes up an invitation for a realm, with a key of their own.
#[test]
fn a_made_up_invitation_opens_nothing() {
    let realm = Realm::new();
    let key = SigningKey::generate().unwrap();
    let mut made_up = realm.invitation(Role::Admin).into_inner();
    let unsigned_by_itself = invitation::seal(&made_up, &key);
    assert_eq!(
        verify_invitation(&unsigned_by_itself, None, NOW).unwrap_err(),
        InvitationError::BadSignature
    );
    made_up.online = key.public();
    let token = invitation::seal(&made_up, &key);
    let bearer = verify_invitation(&token, Some(realm.dir.realm()), NOW).unwrap();
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    assert_eq!(
        realm
            .authority
            .grant(&bearer, &realm.state(), &csr, "thief", NOW),
        Err(EnrolError::ForeignInvitation)
    );
    assert_eq!(
        check_delegation(&bearer, &realm.state()),
        Err(InvitationError::NotDelegated("another online key"))
    );
}

#[test]
fn every_changed_character_is_noticed() {
    let realm = Realm::new();
    let token = realm.dir.invite(Role::Node, DAY, NOW).unwrap();
    for position in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[position] = if changed[position] == b'a' {
            b'b'
        } else {
            b'a'
        };
        let changed = String::from_utf8(changed).unwrap();
        assert!(
            matches!(
                verify_invitation(&changed, None, NOW),
                Err(InvitationError::Malformed(_))
            ),
            "character {position}"
        );
        let mut shorter = token.clone();
        shorter.remove(position);
        assert!(matches!(
            verify_invitation(&shorter, None, NOW),
            Err(InvitationError::Malformed(_))
        ));
    }
    let long = token.repeat(20);
    assert!(matches!(
        verify_invitation(&long, None, NOW),
        Err(InvitationError::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn no_text_makes_an_invitation(text in "(hearth-invite-)?[a-z2-7é ]{0,400}") {
        prop_assert!(verify_invitation(&text, Some(RealmId::default()), NOW).is_err());
    }
}
