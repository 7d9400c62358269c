//! Finding a realm's coordinator on the local network by multicast DNS.
//!
//! Anyone on the network can announce anything. What is found is an address to try; the realm's key
//! decides, in the TLS handshake. The realm's id is cut, so that an announcement says which realm it
//! may be to those who know it, and little to others.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hearth_wire::RealmId;
use hearth_wire::limits::NAME_BYTES_MAX;
use hearth_wire::text::is_control;
use mdns_sd::{Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

const SERVICE: &str = "_hearth._tcp.local.";
const REALM_KEY: &str = "realm";
const NAME_KEY: &str = "name";
/// Characters of a realm's id in an announcement: 64 bits tell realms apart by accident, not by malice.
const PREFIX_CHARACTERS: usize = 16;
/// Addresses taken from one announcement.
const ADDRESSES_MAX: usize = 16;

/// Why there is no multicast DNS. The operator's network is to blame; addresses can still be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("multicast DNS does not work here ({0}); give the coordinator's address instead")]
pub struct MdnsError(String);

impl From<mdns_sd::Error> for MdnsError {
    fn from(error: mdns_sd::Error) -> Self {
        Self(error.to_string())
    }
}

/// The part of a realm's id that announcements carry.
#[must_use]
pub fn realm_prefix(realm: &RealmId) -> String {
    realm.to_string().chars().take(PREFIX_CHARACTERS).collect()
}

/// Announces a coordinator until dropped.
pub struct Announcement {
    daemon: ServiceDaemon,
    full_name: String,
}

/// Announces the coordinator `name` of `realm` on `port` of all this machine's addresses.
///
/// # Errors
///
/// [`MdnsError`].
pub fn announce(realm: &RealmId, name: &str, port: u16) -> Result<Announcement, MdnsError> {
    let prefix = realm_prefix(realm);
    let host = format!("hearth-{prefix}-{port}.local.");
    let name = cut(name);
    let properties = [(REALM_KEY, prefix.as_str()), (NAME_KEY, name)];
    // One label of at most 63 bytes: the name for people is in the properties.
    let instance = format!("{prefix}-{port}");
    let service =
        ServiceInfo::new(SERVICE, &instance, &host, "", port, &properties[..])?.enable_addr_auto();
    let full_name = service.get_fullname().to_owned();
    let daemon = ServiceDaemon::new()?;
    daemon.register(service)?;
    Ok(Announcement { daemon, full_name })
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Neither is worth waiting for: an announcement that stays is only a stale hint.
        let _ = self.daemon.unregister(&self.full_name);
        let _ = self.daemon.shutdown();
    }
}

/// A coordinator that says it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The beginning of its realm's id, see [`realm_prefix`].
    pub realm_prefix: String,
    /// Its name, for people.
    pub name: String,
    /// Where it may be reached.
    pub addresses: Vec<SocketAddr>,
}

/// Looks for coordinators until dropped.
pub struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    realm_prefix: Option<String>,
}

/// Looks for the coordinators of `realm`, or of any.
///
/// # Errors
///
/// [`MdnsError`].
pub fn browse(realm: Option<&RealmId>) -> Result<Browser, MdnsError> {
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(SERVICE)?;
    Ok(Browser {
        daemon,
        events,
        realm_prefix: realm.map(realm_prefix),
    })
}

impl Browser {
    /// The next announcement; the same coordinator may come again. None if the search has ended.
    pub async fn next(&mut self) -> Option<Found> {
        loop {
            let event = self.events.recv_async().await.ok()?;
            if let ServiceEvent::ServiceResolved(service) = event
                && let Some(found) = found(&service)
                && self
                    .realm_prefix
                    .as_ref()
                    .is_none_or(|wanted| *wanted == found.realm_prefix)
            {
                return Some(found);
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

fn found(service: &ResolvedService) -> Option<Found> {
    let realm_prefix = service.get_property_val_str(REALM_KEY)?;
    if realm_prefix.len() != PREFIX_CHARACTERS
        || !realm_prefix.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    // In order, so that everyone tries the same first: IPv4 before IPv6, which may need a scope.
    let addresses: BTreeSet<SocketAddr> = service
        .get_addresses()
        .iter()
        .map(|address| SocketAddr::new(address.to_ip_addr(), service.get_port()))
        .collect();
    let name = service.get_property_val_str(NAME_KEY).unwrap_or_default();
    Some(Found {
        realm_prefix: realm_prefix.to_owned(),
        name: cut(name).chars().filter(|c| !is_control(*c)).collect(),
        addresses: addresses.into_iter().take(ADDRESSES_MAX).collect(),
    })
}

/// No more of a name than names have.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
