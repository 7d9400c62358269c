//! Announcing and finding, where the network lets multicast through.

use std::net::{Ipv4Addr, UdpSocket};

use hearth_wire::{Digest, RealmId};

use super::support::*;
use crate::mdns::{announce, browse, realm_prefix};

/// Whether a multicast packet that this machine sends comes back to it.
fn multicast_works() -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let probe = || -> std::io::Result<()> {
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        receiver.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        receiver.set_read_timeout(Some(millis(300)))?;
        let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        sender.send_to(b"hearth", (group, receiver.local_addr()?.port()))?;
        receiver.recv_from(&mut [0; 16]).map(|_| ())
    };
    probe().is_ok()
}

// A skipped test says so.
#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_realm_is_found_by_its_own_and_not_by_others() {
    if !multicast_works() {
        println!("skipped: multicast does not work here");
        return;
    }
    let realm = RealmId(Digest::of(b"a realm of this test"));
    let other = RealmId(Digest::of(b"another realm"));
    let _other = announce(&other, "not me", 4_000).unwrap();
    let _announcement = announce(&realm, "kitchen", 4_001).unwrap();
    let mut browser = browse(Some(&realm)).unwrap();
    let found = soon(browser.next()).await.unwrap();
    assert_eq!(found.realm_prefix, realm_prefix(&realm));
    assert_eq!(found.name, "kitchen");
    assert!(
        found
            .addresses
            .iter()
            .all(|address| address.port() == 4_001)
    );
    assert!(!found.addresses.is_empty());
}
