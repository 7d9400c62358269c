//! Addresses at which coordinators of the realm announce themselves on the local network.

/// Addresses of one announcement that are tried: mDNS is not believed to be modest.
const ADDRESSES_MAX: usize = 16;
/// Announcements that are remembered.
const ANNOUNCEMENTS_MAX: usize = 4;

/// Announcements, the newest first.
///
/// A machine that gets another address announces itself again, so the newest is the best hint and an
/// old one the first to go. When every address has failed only the newest announcement is kept: it
/// may be right again once the network is, and is not repeated until it changes.
#[derive(Debug, Default)]
pub(super) struct Found {
    announcements: Vec<Vec<String>>,
}

impl Found {
    /// The addresses of one announcement. Tells whether anything changed.
    pub(super) fn add(&mut self, mut addresses: Vec<String>) -> bool {
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() || self.announcements.first() == Some(&addresses) {
            return false;
        }
        self.announcements.retain(|known| *known != addresses);
        self.announcements.insert(0, addresses);
        self.announcements.truncate(ANNOUNCEMENTS_MAX);
        true
    }

    /// Nobody answered at any of them.
    pub(super) fn failed(&mut self) {
        self.announcements.truncate(1);
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &String> {
        self.announcements.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(found: &Found) -> Vec<&str> {
        found.addresses().map(String::as_str).collect()
    }

    #[test]
    fn the_newest_addresses_are_kept_and_failing_ones_forgotten() {
        let mut found = Found::default();
        for n in 0..100 {
            assert!(found.add(vec![format!("10.0.0.{n}:1")]));
        }
        assert_eq!(list(&found)[0], "10.0.0.99:1");
        assert_eq!(list(&found).len(), ANNOUNCEMENTS_MAX);
        assert!(!found.add(vec!["10.0.0.99:1".to_owned()]), "nothing new");
        assert!(found.add(vec!["10.0.0.98:1".to_owned()]));
        assert_eq!(list(&found)[..2], ["10.0.0.98:1", "10.0.0.99:1"]);
        found.failed();
        assert_eq!(list(&found), ["10.0.0.98:1"]);
        let many = (0..100).map(|n| format!("10.0.1.{n}:1")).collect();
        assert!(found.add(many));
        assert_eq!(list(&found).len(), ADDRESSES_MAX + 1);
    }
}
