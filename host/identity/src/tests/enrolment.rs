use std::sync::{Arc, Barrier, Mutex};

use hearth_wire::{Redemption, Role};

use super::*;

fn grant(realm: &Realm, key: &NodeKey, name: &str) -> Result<Redemption, EnrolError> {
    let invitation = realm.invitation(Role::Node);
    let csr = key.csr_pem().unwrap();
    realm
        .authority
        .grant(&invitation, &realm.state(), &csr, name, NOW)
}

#[test]
fn a_certificate_says_who_and_what_for_how_long() {
    let realm = Realm::new();
    for (role, seconds) in [
        (Role::Node, NODE_SECONDS),
        (Role::Admin, CLIENT_SECONDS),
        (Role::Author, CLIENT_SECONDS),
        (Role::Observer, CLIENT_SECONDS),
    ] {
        let joined = realm.join(role, role.as_str());
        let tls = joined.tls();
        let peer = realm
            .authority
            .ca()
            .verify_peer(&tls.chain[0], NOW)
            .unwrap();
        assert_eq!(peer.role(), role);
        assert_eq!(peer.name(), role.as_str());
        assert_eq!(peer.node(), joined.key().node_id());
        assert_eq!(peer.key_id().0, peer.node().0);
        assert_eq!(peer.public_key(), joined.key().public());
        assert_eq!(peer.not_after(), later(seconds));
    }
}

#[test]
fn two_keys_race_for_one_invitation_and_one_wins() {
    let realm = Realm::new();
    let invitation = realm.invitation(Role::Node);
    for _ in 0..20 {
        let used = Arc::new(Mutex::new(Redemptions::default()));
        let barrier = Arc::new(Barrier::new(2));
        let racers: Vec<_> = (0..2)
            .map(|number| {
                let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
                let name = format!("racer {number}");
                let redemption = realm
                    .authority
                    .grant(&invitation, &realm.state(), &csr, &name, NOW)
                    .unwrap();
                let (used, barrier) = (used.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    used.lock().unwrap().redeem(redemption, NOW)
                })
            })
            .collect();
        let results: Vec<_> = racers.into_iter().map(|r| r.join().unwrap()).collect();
        let won = |r: &Result<Redeemed, _>| matches!(r, Ok(Redeemed::First(_)));
        assert_eq!(results.iter().filter(|r| won(r)).count(), 1);
        assert!(results.contains(&Err(EnrolError::AlreadyUsed)));
    }
}

#[test]
fn a_retry_with_the_same_key_gets_the_same_certificate() {
    let realm = Realm::new();
    let invitation = realm.invitation(Role::Node);
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    let mut used = Redemptions::default();
    let mut redeem = || {
        let redemption = realm
            .authority
            .grant(&invitation, &realm.state(), &csr, "node", NOW)
            .unwrap();
        used.redeem(redemption, NOW).unwrap()
    };
    let first = redeem().redemption().certificate.clone();
    assert!(matches!(redeem(), Redeemed::Again(again) if again.certificate == first));
}

/// Its token was good for a month, and a node's certificate is for a day.
#[test]
fn a_retry_after_the_certificate_has_ended_gets_a_new_one() {
    let realm = Realm::new();
    let token = realm.dir.invite(Role::Node, 30 * DAY, NOW).unwrap();
    let invitation = verify_invitation(&token, None, NOW).unwrap();
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    let grant = |csr: &str, now| {
        realm
            .authority
            .grant(&invitation, &realm.state(), csr, "node", now)
            .unwrap()
    };
    let mut used = Redemptions::default();
    let Ok(Redeemed::First(first)) = used.redeem(grant(&csr, NOW), NOW) else {
        panic!("not the first");
    };
    let still = later(NODE_SECONDS - 1);
    let again = used.redeem(grant(&csr, still), still).unwrap();
    assert_eq!(again, Redeemed::Again(first.clone()));

    let then = later(3 * DAY);
    let anew = used.redeem(grant(&csr, then), then).unwrap();
    assert!(matches!(anew, Redeemed::Anew(_)));
    let anew = anew.redemption().clone();
    let certificate = anew.certificate.clone().into();
    let ca = realm.authority.ca();
    assert!(ca.verify_peer(&certificate, then).is_ok());
    // One that could not be journaled leaves the invitation bound to its key.
    used.forget(&anew);
    let thief = NodeKey::generate().unwrap().csr_pem().unwrap();
    let stolen = used.redeem(grant(&thief, then), then);
    assert_eq!(stolen, Err(EnrolError::AlreadyUsed));
    used.replay(anew.clone());
    let again = used.redeem(grant(&csr, then), then).unwrap();
    assert_eq!(again, Redeemed::Again(anew));
}

#[test]
fn requests_that_are_none_are_refused() {
    let realm = Realm::new();
    let invitation = realm.invitation(Role::Node);
    let grant = |csr: &str, name: &str, now| {
        realm
            .authority
            .grant(&invitation, &realm.state(), csr, name, now)
            .unwrap_err()
    };
    assert!(matches!(grant("", "node", NOW), EnrolError::Request(_)));
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    assert_eq!(grant(&csr, "", NOW), EnrolError::Name);
    assert_eq!(grant(&csr, "a\nb", NOW), EnrolError::Name);
    assert_eq!(grant(&csr, &"n".repeat(65), NOW), EnrolError::Name);
    assert_eq!(
        grant(&csr, "node", later(DAY + 1)),
        EnrolError::InvitationExpired
    );
    // A request whose signature is not by the key in it.
    let der = pem::decode(&csr, pem::CERTIFICATE_REQUEST).unwrap();
    let mut changed = der.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let changed = pem::encode(pem::CERTIFICATE_REQUEST, &changed);
    assert!(matches!(
        grant(&changed, "node", NOW),
        EnrolError::Request(_)
    ));
    // A key of another kind.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    assert!(matches!(
        grant(&csr.pem().unwrap(), "node", NOW),
        EnrolError::Request(_)
    ));
}

/// What a request asks for besides its key is ignored: names, roles, being a CA.
#[test]
fn a_request_cannot_ask_for_more() {
    let realm = Realm::new();
    let key = NodeKey::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![COORDINATOR_NAME.to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationalUnitName, "admin");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key.rcgen().unwrap()).unwrap();
    let redemption = realm
        .authority
        .grant(
            &realm.invitation(Role::Node),
            &realm.state(),
            &csr.pem().unwrap(),
            "node",
            NOW,
        )
        .unwrap();
    let certificate = redemption.certificate.into();
    let peer = realm.authority.ca().verify_peer(&certificate, NOW).unwrap();
    assert_eq!(peer.role(), Role::Node);
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    assert!(
        !parsed
            .extended_key_usage()
            .unwrap()
            .unwrap()
            .value
            .server_auth
    );
}

#[test]
fn another_realm_s_invitation_gets_no_certificate() {
    let (realm, other) = (Realm::new(), Realm::new());
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    assert_eq!(
        realm.authority.grant(
            &other.invitation(Role::Node),
            &realm.state(),
            &csr,
            "node",
            NOW
        ),
        Err(EnrolError::ForeignInvitation)
    );
}

#[test]
fn a_certificate_is_renewed_with_its_key_for_thirty_days_after_its_end() {
    let realm = Realm::new();
    let mut node = realm.join(Role::Node, "node");
    assert!(!node.needs_renewal(later(NODE_SECONDS / 2 - HOUR)));
    assert!(node.needs_renewal(later(NODE_SECONDS / 2)));
    let renew = |node: &NodeDir, now| {
        let csr = node.key().csr_pem().unwrap();
        realm
            .authority
            .renew(&node.certificate_pem(), &csr, &realm.state(), now)
    };
    let last = later(NODE_SECONDS + RENEW_SECONDS);
    assert_eq!(
        renew(&node, UnixSeconds(last.0 + 1)),
        Err(EnrolError::TooOld)
    );
    let certificate = renew(&node, last).unwrap();
    let state = realm.dir.refresh(last).unwrap();
    node.accept_renewal(&certificate_pem(&certificate), &state.bundle_bytes(), last)
        .unwrap();
    assert_eq!(node.not_after().0, last.0 + NODE_SECONDS);
    assert_eq!(node.name(), "node");
    let reopened = NodeDir::open(node.path()).unwrap();
    assert_eq!(reopened.not_after(), node.not_after());
    assert_eq!(reopened.node_id(), node.node_id());
}

#[test]
fn renewals_of_others_are_refused() {
    let (realm, other) = (Realm::new(), Realm::new());
    let node = realm.join(Role::Node, "node");
    let thief = NodeKey::generate().unwrap();
    let renew = |certificate: &str, key: &NodeKey| {
        let csr = key.csr_pem().unwrap();
        realm
            .authority
            .renew(certificate, &csr, &realm.state(), NOW)
            .unwrap_err()
    };
    let certificate = node.certificate_pem();
    assert_eq!(renew(&certificate, &thief), EnrolError::OtherKey);
    let foreign = other.join(Role::Node, "foreign");
    assert_eq!(
        renew(&foreign.certificate_pem(), foreign.key()),
        EnrolError::Certificate(PeerError::ForeignCa)
    );
    assert!(matches!(
        renew("", node.key()),
        EnrolError::Certificate(PeerError::Malformed(_))
    ));
    // Nobody becomes a coordinator by renewing, nor renews the CA.
    let tls = realm.dir.coordinator_tls(NOW).unwrap();
    for certificate in &tls.chain {
        let refused = renew(&certificate_pem(certificate), node.key());
        assert!(matches!(refused, EnrolError::Certificate(_)), "{refused:?}");
    }
    let id = node.node_id();
    realm.dir.revoke(NOW, |list| list.nodes.push(id)).unwrap();
    assert_eq!(renew(&certificate, node.key()), EnrolError::Revoked);
    assert_eq!(grant(&realm, node.key(), "again"), Err(EnrolError::Revoked));
}

#[test]
fn a_joiner_believes_only_what_fits_the_invitation() {
    let (realm, other) = (Realm::new(), Realm::new());
    let invitation = realm.invitation(Role::Node);
    let answer = |certificate_of: &Realm, ca_of: &Realm, policy_of: &Realm, role, own: bool| {
        let path = realm.root.path().join("joiner");
        let joining = NodeDir::prepare(&path).unwrap();
        let key = NodeKey::generate().unwrap();
        let key = if own { joining.key() } else { &key };
        let authority = &certificate_of.authority;
        let certificate = authority
            .issue_client(key.public(), "joiner", role, NOW)
            .unwrap();
        let refused = joining
            .accept_enrolment(
                &invitation,
                &certificate_pem(&certificate),
                &ca_of.authority.ca().pem(),
                &policy_of.state().bundle_bytes(),
                NOW,
            )
            .unwrap_err();
        assert!(!NodeDir::exists(&path), "nothing was kept");
        refused
    };
    let node = Role::Node;
    let foreign = DirError::Peer(PeerError::ForeignCa).to_string();
    assert_eq!(
        answer(&realm, &other, &realm, node, true).to_string(),
        foreign
    );
    assert_eq!(
        answer(&other, &realm, &realm, node, true).to_string(),
        foreign
    );
    // An impostor with a CA of its own, who has the realm's genuine policy.
    assert_eq!(
        answer(&other, &other, &realm, node, true).to_string(),
        foreign
    );
    assert!(matches!(
        answer(&realm, &realm, &other, node, true),
        DirError::Policy(PolicyError::WrongRealm { .. })
    ));
    assert!(matches!(
        answer(&realm, &realm, &realm, Role::Observer, true),
        DirError::OtherCertificate("role")
    ));
    assert!(matches!(
        answer(&realm, &realm, &realm, node, false),
        DirError::OtherCertificate("key")
    ));
}

/// The realm is genuine, but somebody else made the invitation up.
#[test]
fn a_joiner_wants_an_invitation_that_the_realm_s_own_key_signed() {
    let realm = Realm::new();
    let key = SigningKey::generate().unwrap();
    let mut made_up = realm.invitation(Role::Node).into_inner();
    made_up.online = key.public();
    let token = invitation::seal(&made_up, &key);
    let bearer = verify_invitation(&token, None, NOW).unwrap();
    let joining = NodeDir::prepare(&realm.root.path().join("joiner")).unwrap();
    let certificate = realm
        .authority
        .issue_client(joining.key().public(), "joiner", Role::Node, NOW)
        .unwrap();
    let refused = joining.accept_enrolment(
        &bearer,
        &certificate_pem(&certificate),
        &realm.authority.ca().pem(),
        &realm.state().bundle_bytes(),
        NOW,
    );
    assert!(matches!(
        refused,
        Err(DirError::Invitation(InvitationError::NotDelegated(_)))
    ));
}
