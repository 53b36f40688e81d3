//! What every part of a configuration is made from.

use std::net::IpAddr;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::TransparentProxying;
use kds_proto::mesh::dataplane::networking::transparent_proxying::IpFamilyMode;
use model::spec::Dataplane;
use model::{Kind, Kri, labels};
use policy::Selected;

use crate::identity::Identity;
use crate::metadata::{Feature, Metadata};
use crate::outbounds::{self, Outbound};
use crate::proxy::Proxy;
use crate::settings::{Cidr, Settings};
use crate::view::MeshView;

/// How traffic is redirected to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transparent {
    pub(crate) inbound_port: u32,
    pub(crate) outbound_port: u32,
    pub(crate) ipv6: bool,
    pub(crate) dns: bool,
}

impl Transparent {
    fn of(declared: &TransparentProxying, metadata: &Metadata) -> Option<Self> {
        let (inbound_port, outbound_port) = (declared.redirect_port_inbound, declared.redirect_port_outbound);
        (inbound_port != 0 && outbound_port != 0).then_some(Self {
            inbound_port,
            outbound_port,
            ipv6: declared.ip_family_mode() != IpFamilyMode::IPv4,
            dns: metadata.dns_port.is_some(),
        })
    }
}

/// What every part of a configuration is made from.
pub(crate) struct Context<'a> {
    pub(crate) view: &'a MeshView,
    pub(crate) proxy: &'a Proxy,
    pub(crate) networking: &'a Networking,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) settings: &'a Settings,
    /// How traffic is redirected to the proxy; `None` when it is not.
    pub(crate) transparent: Option<Transparent>,
    pub(crate) outbounds: Vec<Outbound>,
    /// A policy that is left out, to see what it does.
    pub(crate) without: Option<&'a Kri>,
}

impl<'a> Context<'a> {
    /// `None` when the Dataplane cannot be read.
    pub(crate) fn new(
        view: &'a MeshView,
        proxy: &'a Proxy,
        identity: Option<&'a Identity>,
        settings: &'a Settings,
    ) -> Option<Self> {
        let networking = proxy.dataplane.spec::<Dataplane>().ok()?.networking.as_ref()?;
        let declared = networking.transparent_proxying.as_ref();
        let told = proxy.metadata.transparent.clone();
        let transparent = told.or_else(|| Transparent::of(declared?, &proxy.metadata));
        let by_vip = transparent.is_some() || proxy.metadata.has(Feature::BindOutbounds);
        let outbounds = if by_vip {
            outbounds::virtual_ones(view, networking)
        } else {
            outbounds::declared(view, networking)
        };
        Some(Self { view, proxy, networking, identity, settings, transparent, outbounds, without: None })
    }

    /// The proxy's own address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.view.resolve(&self.networking.address)
    }

    /// What the proxy can do.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.proxy.metadata.has(feature)
    }

    /// Whether several sockets may share a port; always said, since Envoy's own answer depends on the system.
    pub(crate) fn reuse_port(&self) -> Option<bool> {
        Some(self.has(Feature::ReusePort))
    }

    /// Addresses that count as internal, of the families that the proxy has.
    pub(crate) fn internal(&self) -> impl Iterator<Item = &'a Cidr> {
        let ipv6 = self.proxy.metadata.ipv6;
        self.settings.internal_cidrs.iter().filter(move |cidr| ipv6 || cidr.address.is_ipv4())
    }

    /// Addresses of the machine itself, of the families that the proxy has.
    pub(crate) fn local(&self) -> impl Iterator<Item = Cidr> {
        let ipv6 = self.proxy.metadata.ipv6;
        let ranges = ["127.0.0.1/32", "::1/128"].into_iter().filter_map(Cidr::parse);
        ranges.filter(move |cidr| ipv6 || cidr.address.is_ipv4())
    }

    /// The name by which peers know what runs behind the proxy.
    pub(crate) fn workload(&self) -> &'a str {
        self.proxy.dataplane.label(labels::WORKLOAD).unwrap_or("unknown")
    }

    /// Identifier of the Workload that the proxy belongs to.
    pub(crate) fn workload_kri(&self) -> Option<String> {
        let dataplane = &self.proxy.dataplane;
        let kri = Kri {
            kind: Kind::WORKLOAD,
            mesh: dataplane.mesh().into(),
            zone: self.view.zone().into(),
            namespace: dataplane.namespace().unwrap_or_default().into(),
            name: dataplane.label(labels::WORKLOAD)?.into(),
            section: String::new(),
        };
        Some(kri.to_string())
    }

    /// The policies of a kind that select the proxy.
    pub(crate) fn policies(&self, kind: Kind) -> Selected {
        let proxy = policy::Proxy::new(&self.proxy.dataplane, self.view.zone())
            .with_shadow(self.settings.shadow_policies);
        let selected = self.view.policies(kind).map(|policies| policies.select(&proxy)).unwrap_or_default();
        match self.without {
            Some(policy) => selected.without(policy),
            None => selected,
        }
    }
}
