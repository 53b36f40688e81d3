//! Users, groups and static access lists of the REST API.

mod local;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use local::{Request, is_local_admin};

/// The built-in administrator, and the group that access lists grant everything to.
pub const ADMIN: &str = "mesh-system:admin";
/// The user of a request without credentials.
pub const ANONYMOUS: &str = "mesh-system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "mesh-system:unauthenticated";
/// The group of every user who proved who they are.
pub const AUTHENTICATED: &str = "mesh-system:authenticated";

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl User {
    /// The administrator.
    pub fn admin() -> Self {
        Self { name: ADMIN.to_owned(), groups: vec![ADMIN.to_owned()] }
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// The bearer of a valid user token: also a member of [`AUTHENTICATED`].
    pub fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups }
    }
}

/// `NAME/GROUP1,GROUP2`
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.groups.join(","))
    }
}

/// A user may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user \"{user}\" cannot access {thing}")]
pub struct AccessDenied {
    /// Who asked.
    pub user: User,
    /// What for.
    pub thing: String,
}

/// Who is on one access list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessList {
    /// Names of users.
    pub users: BTreeSet<String>,
    /// Names of groups; every member is on the list.
    pub groups: BTreeSet<String>,
}

impl AccessList {
    fn admin() -> Self {
        Self { users: [ADMIN.to_owned()].into(), groups: [ADMIN.to_owned()].into() }
    }

    fn everyone() -> Self {
        let groups = [UNAUTHENTICATED.to_owned(), AUTHENTICATED.to_owned()].into();
        Self { users: BTreeSet::new(), groups }
    }

    /// Whether a user is on the list, by name or by group.
    pub fn allows(&self, user: &User) -> bool {
        self.users.contains(&user.name) || user.groups.iter().any(|group| self.groups.contains(group))
    }
}

/// What an access list guards. Everything else is open to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// All verbs on secrets and global secrets.
    AdminResources,
    /// Issuing dataplane tokens.
    GenerateDataplaneToken,
    /// Issuing user tokens.
    GenerateUserToken,
    /// Issuing zone tokens.
    GenerateZoneToken,
    /// Reading the configuration of a proxy.
    ViewConfigDump,
    /// Reading the statistics of a proxy.
    ViewStats,
    /// Reading the clusters of a proxy.
    ViewClusters,
    /// Reading the control plane's own configuration.
    ControlPlaneMetadata,
}

/// The access lists: the section `access.static` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessControl {
    /// For [`Permission::AdminResources`].
    pub admin_resources: AccessList,
    /// For [`Permission::GenerateDataplaneToken`].
    pub generate_dp_token: AccessList,
    /// For [`Permission::GenerateUserToken`].
    pub generate_user_token: AccessList,
    /// For [`Permission::GenerateZoneToken`].
    pub generate_zone_token: AccessList,
    /// For [`Permission::ViewConfigDump`].
    pub view_config_dump: AccessList,
    /// For [`Permission::ViewStats`].
    pub view_stats: AccessList,
    /// For [`Permission::ViewClusters`].
    pub view_clusters: AccessList,
    /// For [`Permission::ControlPlaneMetadata`].
    pub control_plane_metadata: AccessList,
}

impl Default for AccessControl {
    fn default() -> Self {
        Self {
            admin_resources: AccessList::admin(),
            generate_dp_token: AccessList::admin(),
            generate_user_token: AccessList::admin(),
            generate_zone_token: AccessList::admin(),
            view_config_dump: AccessList::everyone(),
            view_stats: AccessList::everyone(),
            view_clusters: AccessList::everyone(),
            control_plane_metadata: AccessList::everyone(),
        }
    }
}

impl AccessControl {
    /// Whether a user may do something; `thing` names it in the refusal.
    pub fn check(&self, permission: Permission, user: &User, thing: &str) -> Result<(), AccessDenied> {
        if self.list(permission).allows(user) {
            return Ok(());
        }
        Err(AccessDenied { user: user.clone(), thing: thing.to_owned() })
    }

    fn list(&self, permission: Permission) -> &AccessList {
        match permission {
            Permission::AdminResources => &self.admin_resources,
            Permission::GenerateDataplaneToken => &self.generate_dp_token,
            Permission::GenerateUserToken => &self.generate_user_token,
            Permission::GenerateZoneToken => &self.generate_zone_token,
            Permission::ViewConfigDump => &self.view_config_dump,
            Permission::ViewStats => &self.view_stats,
            Permission::ViewClusters => &self.view_clusters,
            Permission::ControlPlaneMetadata => &self.control_plane_metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_secrets_and_tokens_are_for_the_administrator() {
        let access = AccessControl::default();
        let ann = User::authenticated("ann", ["ops".to_owned()]);
        for permission in [
            Permission::AdminResources,
            Permission::GenerateDataplaneToken,
            Permission::GenerateUserToken,
            Permission::GenerateZoneToken,
        ] {
            access.check(permission, &User::admin(), "it").unwrap();
            access.check(permission, &ann, "it").unwrap_err();
            access.check(permission, &User::anonymous(), "it").unwrap_err();
        }
        for permission in [Permission::ViewConfigDump, Permission::ControlPlaneMetadata] {
            access.check(permission, &ann, "it").unwrap();
            access.check(permission, &User::anonymous(), "it").unwrap();
        }
    }

    #[test]
    fn a_list_names_users_or_groups_and_a_refusal_names_both() {
        let ops = AccessList { users: BTreeSet::new(), groups: ["ops".to_owned()].into() };
        let access = AccessControl { admin_resources: ops, ..AccessControl::default() };
        let ann = User::authenticated("ann", ["ops".to_owned()]);
        access.check(Permission::AdminResources, &ann, "secrets").unwrap();
        let bob = User::authenticated("bob", ["dev".to_owned()]);
        let denied = access.check(Permission::AdminResources, &bob, "secrets").unwrap_err();
        assert_eq!(denied.to_string(), "user \"bob/dev,mesh-system:authenticated\" cannot access secrets");
    }

    #[test]
    fn lists_are_read_over_the_defaults() {
        let access: AccessControl = serde_json::from_str(r#"{"viewStats": {"users": ["ann"]}}"#).unwrap();
        assert!(access.check(Permission::ViewStats, &User::anonymous(), "stats").is_err());
        assert_eq!(access.admin_resources, AccessControl::default().admin_resources);
    }
}
