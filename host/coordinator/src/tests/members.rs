//! Who may do what, and how one becomes somebody.

use hearth_identity::NodeKey;
use hearth_net::http::HttpError;
use hearth_wire::api::{JobStatus, NodeList};
use hearth_wire::{JobOptions, Role};

use super::support::*;

fn code(error: &HttpError) -> &str {
    match error {
        HttpError::Api { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_belongs_to_the_first_key_that_presents_it() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let token = invite(&owner, Role::Node).await;
    let (first, second) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    // Two race: one wins, the other is refused.
    let (one, two) = tokio::join!(
        present(running.addr(), &token, &first, "one"),
        present(running.addr(), &token, &second, "two"),
    );
    let (won, lost, winner) = match (one, two) {
        (Ok(won), Err(lost)) => (won, lost, &first),
        (Err(lost), Ok(won)) => (won, lost, &second),
        other => panic!("both or none: {other:?}"),
    };
    assert_eq!(code(&lost), "invitation-used");
    // The winner may ask again, and gets the same; also after a restart.
    let again = present(running.addr(), &token, winner, "one")
        .await
        .unwrap();
    assert_eq!(again.certificate_pem, won.certificate_pem);
    running.stop().await;
    let running = Running::start(config(&realm)).await;
    let again = present(running.addr(), &token, winner, "one")
        .await
        .unwrap();
    assert_eq!(again.certificate_pem, won.certificate_pem);
    let third = NodeKey::generate().unwrap();
    let refused = present(running.addr(), &token, &third, "three")
        .await
        .unwrap_err();
    assert_eq!(code(&refused), "invitation-used");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_limit_what_a_client_may_do_and_see() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    let owner = admin(&realm, addr);
    let enrol = |role, name: &'static str| join(&owner, addr, role, name, dir.path());
    let node = member(&realm, addr, &enrol(Role::Node, "node").await);
    let author = member(&realm, addr, &enrol(Role::Author, "author").await);
    let other = member(&realm, addr, &enrol(Role::Author, "other").await);
    let observer = member(&realm, addr, &enrol(Role::Observer, "observer").await);
    let release = publish(&realm, &author).await;
    let inputs = upload_inputs(&author, &[b"private".to_vec()]).await;
    let job = submit(&author, release, inputs.clone(), JobOptions::default())
        .await
        .unwrap();
    let path = format!("/v1/jobs/{}", job.job);

    // A job is its owner's, and the admins' and observers'.
    for client in [&owner, &author, &observer] {
        client.get_json::<JobStatus>(&path).await.unwrap();
    }
    let hidden = other.get_json::<JobStatus>(&path).await.unwrap_err();
    let unknown = other
        .get_json::<JobStatus>("/v1/jobs/job-99")
        .await
        .unwrap_err();
    assert_eq!((hidden.status(), code(&hidden)), (Some(404), "not-found"));
    assert_eq!((unknown.status(), code(&unknown)), (Some(404), "not-found"));
    let cancel = other.delete_json::<JobStatus>(&path).await.unwrap_err();
    assert_eq!(cancel.status(), Some(404));
    let input = format!("/v1/inputs/{}/0", job.job);
    assert_eq!(
        &author.get_bytes(&input, 100).await.unwrap()[..],
        b"private"
    );
    for client in [&other, &node] {
        let refused = client.get_bytes(&input, 100).await.unwrap_err();
        assert_eq!(refused.status(), Some(404), "no lease, not the owner");
    }

    // What a role may not do at all.
    let refused = [
        observer.delete_json::<JobStatus>(&path).await.map(drop),
        submit(&observer, release, inputs.clone(), JobOptions::default())
            .await
            .map(drop),
        submit(&node, release, inputs, JobOptions::default())
            .await
            .map(drop),
        node.get_json::<NodeList>("/v1/nodes").await.map(drop),
        author
            .post_json::<_, serde_json::Value>("/v1/nodes/local/drain", &())
            .await
            .map(drop),
        observer
            .post_json::<_, serde_json::Value>(
                "/v1/invitations",
                &serde_json::json!({ "role": "admin", "ttl_seconds": 60 }),
            )
            .await
            .map(drop),
    ];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!((refused.status(), code(&refused)), (Some(403), "forbidden"));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_only_what_its_leases_name() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let blobs = member(&realm, running.addr(), &joined);
    let large: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    let component = format!("/v1/blobs/{}", hearth_wire::Digest::of(COMPONENT));
    let release = publish(&realm, &owner).await;
    // Known here, but not to a node without a lease; and it may not upload either.
    let refused = blobs.get_bytes(&component, 1_000).await.unwrap_err();
    assert_eq!(refused.status(), Some(404));
    let digest = hearth_wire::Digest::of(&large);
    let output = format!("/v1/blobs/{digest}");
    let source = || hearth_net::http::UploadSource::Bytes(large.clone().into());
    assert_eq!(
        blobs.upload(&output, source()).await.unwrap_err().status(),
        Some(403)
    );

    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let inputs = upload_inputs(&owner, std::slice::from_ref(&large)).await;
    let job = submit(&owner, release, inputs, JobOptions::default())
        .await
        .unwrap();
    let lease = node.leases().await.remove(0);
    let got = blobs.get_bytes(&component, 1_000).await.unwrap();
    assert_eq!(&got[..], COMPONENT);
    let input = format!("/v1/inputs/{}/0", job.job);
    assert_eq!(
        &blobs.get_bytes(&input, 100_000).await.unwrap()[..],
        &large[..]
    );
    // A large output is uploaded first, then reported.
    blobs.upload(&output, source()).await.unwrap();
    let body = hearth_wire::Body::Blob(hearth_wire::Blob::of(&large));
    let report = node.report_of(&lease, body);
    node.send_reports(&[report]).await;
    node.settled(&[lease.attempt]).await;
    closed(&owner, job.job).await;
    let path = format!("/v1/jobs/{}/tasks/0/output", job.job);
    assert_eq!(
        &owner.get_bytes(&path, 100_000).await.unwrap()[..],
        &large[..]
    );
    // The lease is over, and with it the right to read.
    assert_eq!(
        blobs.get_bytes(&input, 100_000).await.unwrap_err().status(),
        Some(404)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_enrolment_says_why_by_its_own_code() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let key = NodeKey::generate().unwrap();
    let home = hearth_identity::RealmDir::open(&realm).unwrap();
    let now = crate::clock::unix_now();
    let long_ago = hearth_wire::UnixSeconds(now.0 - 10_000);
    let expired = home.invite(Role::Node, 60, long_ago).unwrap();
    let elsewhere = self::realm();
    let elsewhere = hearth_identity::RealmDir::open(&realm_path(&elsewhere)).unwrap();
    let foreign = elsewhere.invite(Role::Node, 600, now).unwrap();
    let good = invite(&owner, Role::Node).await;
    // Other letters than those that are there.
    let end = if good.ends_with("aa") { "bb" } else { "aa" };
    let garbled = format!("{}{end}", &good[..good.len() - 2]);
    let request = |token: &str, name: &str| hearth_wire::api::EnrolRequest {
        token: token.to_owned(),
        csr_pem: key.csr_pem().unwrap(),
        name: name.to_owned(),
    };
    let stranger = stranger(running.addr(), &good);
    let longest = "n".repeat(hearth_wire::limits::MEMBER_NAME_BYTES_MAX);
    let too_long = format!("{longest}n");
    for (token, name, status, expected) in [
        (&expired, "late", 403, "invitation-expired"),
        (&foreign, "lost", 403, "invitation-foreign"),
        (&garbled, "torn", 400, "invitation-malformed"),
        (&good, "", 400, "bad-name"),
        (&good, too_long.as_str(), 400, "bad-name"),
    ] {
        let refused = stranger
            .post_json::<_, serde_json::Value>("/enrol", &request(token, name))
            .await
            .unwrap_err();
        assert_eq!((refused.status(), code(&refused)), (Some(status), expected));
    }
    let mut spoilt = request(&good, "spoilt");
    spoilt.csr_pem = "no request".to_owned();
    let refused = stranger
        .post_json::<_, serde_json::Value>("/enrol", &spoilt)
        .await
        .unwrap_err();
    assert_eq!(code(&refused), "bad-certificate-request");
    // None of that used the token up, and the longest name is a name.
    present(running.addr(), &good, &key, &longest)
        .await
        .unwrap();
    // Who was shut out stays out, with any invitation.
    let path = format!("/v1/nodes/{}/revoke", key.node_id());
    let _: hearth_wire::api::Revoked = owner.post_json(&path, &()).await.unwrap();
    let token = invite(&owner, Role::Node).await;
    let refused = present(running.addr(), &token, &key, "again").await;
    assert_eq!(code(&refused.unwrap_err()), "member-revoked");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_renew_at_the_door_and_nobody_else_does() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    let owner = admin(&realm, addr);
    let door = renewing(&realm, addr);
    let renew = |certificate_pem: String, csr_pem: String| {
        let request = hearth_wire::api::RenewRequest {
            certificate_pem,
            csr_pem,
        };
        let door = &door;
        async move {
            door.post_json::<_, hearth_wire::api::Enrolled>("/renew", &request)
                .await
        }
    };
    for (role, name) in [(Role::Node, "node"), (Role::Author, "author")] {
        let mut member_dir = join(&owner, addr, role, name, dir.path()).await;
        let old = member_dir.certificate_pem();
        let csr = || member_dir.key().csr_pem().unwrap();
        let renewed = renew(old.clone(), csr()).await.unwrap();
        assert_ne!(renewed.certificate_pem, old);
        use base64::Engine as _;
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(&renewed.policy)
            .unwrap();
        let now = crate::clock::unix_now();
        member_dir
            .accept_renewal(&renewed.certificate_pem, &bundle, now)
            .unwrap();
        assert_eq!((member_dir.role(), member_dir.name()), (role, name));
        // The new certificate opens the doors of its role.
        if role == Role::Node {
            FakeNode::working(&realm, addr, member_dir, 1, Vec::new()).await;
        } else {
            publish(&realm, &member(&realm, addr, &member_dir)).await;
        }
    }
    let joined = join(&owner, addr, Role::Node, "other", dir.path()).await;
    let thief = NodeKey::generate().unwrap();
    let refused = renew(joined.certificate_pem(), thief.csr_pem().unwrap()).await;
    assert_eq!(code(&refused.unwrap_err()), "other-key");
    let csr = joined.key().csr_pem().unwrap();
    let refused = renew("no certificate".to_owned(), csr.clone()).await;
    assert_eq!(code(&refused.unwrap_err()), "certificate-malformed");
    let elsewhere = self::realm();
    let foreign = {
        let realm = realm_path(&elsewhere);
        let running = Running::start(config(&realm)).await;
        let owner = admin(&realm, running.addr());
        let joined = join(&owner, running.addr(), Role::Node, "far", elsewhere.path()).await;
        running.stop().await;
        joined
    };
    let refused = renew(foreign.certificate_pem(), foreign.key().csr_pem().unwrap()).await;
    assert_eq!(code(&refused.unwrap_err()), "certificate-foreign");
    let path = format!("/v1/nodes/{}/revoke", joined.node_id());
    let _: hearth_wire::api::Revoked = owner.post_json(&path, &()).await.unwrap();
    let refused = renew(joined.certificate_pem(), csr).await;
    assert_eq!(code(&refused.unwrap_err()), "member-revoked");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_names_of_others_are_refused_even_with_a_certificate() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    let body = r#"{"role":"node","ttl_seconds":60}"#;
    let json = "Content-Type: application/json\r\n";
    let host = format!("Host: {addr}\r\n");
    for (headers, status, expected) in [
        (format!("{host}{json}"), "201", "token"),
        (
            format!("Host: hearth-coordinator\r\n{json}"),
            "201",
            "token",
        ),
        (format!("Host: 127.0.0.1:1\r\n{json}"), "201", "token"),
        (
            format!("{host}{json}Origin: https://{addr}\r\n"),
            "201",
            "token",
        ),
        (
            format!("{host}{json}Origin: https://evil.example\r\n"),
            "403",
            "origin-refused",
        ),
        (
            format!("{host}{json}Origin: null\r\n"),
            "403",
            "origin-refused",
        ),
        (
            format!("Host: evil.example\r\n{json}"),
            "421",
            "host-refused",
        ),
        (json.to_owned(), "400", "host-missing"),
        (
            format!("{host}Content-Type: text/plain\r\n"),
            "415",
            "content-type",
        ),
        (host.clone(), "415", "content-type"),
    ] {
        let request = format!(
            "POST /v1/invitations HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&realm, addr, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(expected),
            "{headers}: {answer}"
        );
    }
    // What never got as far as a request is counted.
    let mut noise = tokio::net::TcpStream::connect(addr).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut noise, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let owner = admin(&realm, addr);
    let counted = async {
        loop {
            let metrics = owner.get_bytes("/metrics", 1 << 20).await.unwrap();
            let metrics = String::from_utf8(metrics.to_vec()).unwrap();
            assert!(metrics.contains("hearth_connections_refused_prefix_total 0"));
            if metrics.contains("hearth_handshakes_failed_total 1") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, counted).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walls_of_a_node_are_shown_while_it_is_connected() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    // What is shown follows what is done.
    let shown = async |connected: bool| loop {
        let mut list: NodeList = owner.get_json("/v1/nodes").await.unwrap();
        if list
            .nodes
            .first()
            .is_some_and(|node| node.connected == connected)
        {
            return list.nodes.remove(0).confinement;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let walls = tokio::time::timeout(WAIT, shown(true)).await.unwrap();
    let walls = walls.unwrap();
    assert!(walls.landlock && !walls.seccomp);
    drop(node);
    let gone = tokio::time::timeout(WAIT, shown(false)).await.unwrap();
    assert_eq!(gone, None);
    running.stop().await;
}
