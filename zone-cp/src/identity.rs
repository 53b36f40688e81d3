//! Workload identities: certificates for the proxies of the zone.
