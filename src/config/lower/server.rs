//! The server file: listeners and store.

use super::ledger::ledger;
use super::or;
use super::principals::principals;
use super::telemetry;
use crate::config::error::{Place, Reports};
use crate::config::leaf::{HostName, Network, Text, Workers, is_host};
use crate::config::pem;
use crate::config::raw;
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::config::{AdminListener, Caps, Cidr, Clients, Listener, ListenerTls, Server, Timeouts};
use crate::policy::model::Policy;
use crate::policy::name::ProjectName;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What the project files say.
pub struct Known<'p> {
    /// The names of all of them; `None` where one could not be read.
    pub projects: Option<&'p [ProjectName]>,
    /// All of them; `None` where one is not valid.
    pub policies: Option<&'p [&'p Policy]>,
}

pub fn server(
    raw: raw::Server,
    known: &Known<'_>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Server> {
    let listeners = raw.listeners.map(|at| at.value);
    let written = raw.principals.map_or_else(Vec::new, |list| list.value.0);
    let principals = principals(&written, known, vault, reports);
    let store = raw.store.and_then(|store| store.value.embedded);
    let store = store.and_then(|embedded| embedded.value.path);
    let ledger = raw.ledger.and_then(|at| ledger(&at.value, vault, reports));
    let telemetry = raw.telemetry.as_ref();
    let telemetry = telemetry.map(|at| telemetry::telemetry(&at.value, vault, reports));
    let (agents, admin, metrics) = self::listeners(&listeners?, vault, reports)?;
    Some(Server {
        workers: workers(raw.workers.map(|at| at.value)),
        agents,
        admin,
        metrics,
        principals,
        store: PathBuf::from(store?.value.0),
        ledger: ledger?,
        // What could not be read was reported, and is not served.
        telemetry: telemetry.flatten(),
    })
}

fn workers(raw: Option<Workers>) -> usize {
    match raw {
        Some(Workers::Number(number)) => number as usize,
        Some(Workers::Auto) | None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn listeners(
    raw: &raw::Listeners,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<(Listener, AdminListener, SocketAddr)> {
    let agents = raw.agents.as_ref().map(|at| &at.value);
    let admin = raw.admin.as_ref().map(|at| &at.value);
    let metrics = raw.metrics.as_ref().map(|at| &at.value);
    let address = |at: &Option<At<crate::config::leaf::Address>>| {
        at.as_ref().map(|at| (at.place, at.value.0))
    };
    let agents_at = agents.and_then(|listener| address(&listener.address));
    let admin_at = admin.and_then(|listener| address(&listener.address));
    let metrics_at = metrics.and_then(|listener| address(&listener.address));
    let named = [
        ("agents'", agents_at),
        ("admin", admin_at),
        ("metrics", metrics_at),
    ];
    refuse_shared_addresses(&named, reports);
    let agents_tls = agents.and_then(|listener| listener.tls.as_ref());
    let admin_tls = admin.and_then(|listener| listener.tls.as_ref());
    if agents_tls.is_none() {
        warn_of_plain_http("agents'", agents_at, "tokens", reports);
    }
    if admin_tls.is_none() {
        warn_of_plain_http("admin", admin_at, "keys and tokens", reports);
    }
    // What could not be read was reported: such a configuration is not served.
    let agents_tls = agents_tls.and_then(|raw| tls(&raw.value, vault, reports));
    let admin_tls = admin_tls.and_then(|raw| tls(&raw.value, vault, reports));
    let (agents, admin) = (agents?, admin?);
    let agents = Listener {
        address: agents_at?.1,
        trusted_proxies: proxies(
            agents.trusted_proxies.as_ref().map(|at| &*at.value.0),
            reports,
        ),
        timeouts: timeouts(agents.timeouts.as_ref()),
        caps: caps(agents.caps.as_ref()),
        failed_tries: or(agents.failed_tries.as_ref(), |n| n.0, FAILED_TRIES),
        body_rate: or(agents.body_rate.as_ref(), |n| n.0, BODY_RATE),
        tls: agents_tls,
    };
    let url = admin.url.as_ref();
    let url = url.and_then(|at| console_url(&at.value.0, at.place, reports));
    let console = url.as_ref().map(|url| &*url.host);
    let admin = AdminListener {
        address: admin_at?.1,
        hosts: match &admin.hosts {
            Some(at) => hosts(&at.value.0, console, admin.url.as_ref(), reports),
            None => own_hosts(admin_at.map(|(_, address)| address), console),
        },
        url: url.map(|url| url.whole),
        timeouts: timeouts(admin.timeouts.as_ref()),
        caps: caps(admin.caps.as_ref()),
        tls: admin_tls,
    };
    Some((agents, admin, metrics_at?.1))
}

/// `None`: reported.
fn tls(
    raw: &raw::ListenerTls,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<ListenerTls> {
    let identity = raw
        .certificate
        .as_ref()
        .zip(raw.private_key.as_ref())
        .and_then(|(certificate, key)| pem::identity(certificate, key, vault, reports));
    let wanted = raw.client_auth.as_ref();
    let clients = match (&raw.client_ca, wanted) {
        (None, None) => Some(Clients::Unasked),
        (None, Some(at)) => {
            reports.error(
                at.place,
                "`client_auth` without `client_ca`: no certificate could be checked",
                "name the file with the authorities of clients' certificates: `client_ca: certs/agents-ca.pem`",
            );
            None
        }
        (Some(bundle), wanted) => pem::authorities(bundle, vault, reports).map(|authorities| {
            match wanted.map(|at| at.value) {
                Some(raw::ClientAuth::Optional) => Clients::Optional(authorities),
                // Who names authorities and nothing else wants them asked for.
                Some(raw::ClientAuth::Required) | None => Clients::Required(authorities),
            }
        }),
    };
    Some(ListenerTls {
        identity: identity?,
        clients: clients?,
    })
}

/// Two listeners at one address could not both start; and the agents' must never be the admin's.
fn refuse_shared_addresses(named: &[(&str, Option<(Place, SocketAddr)>)], reports: &mut Reports) {
    for (position, (later, place)) in named.iter().enumerate() {
        let Some((place, address)) = place else {
            continue;
        };
        let shared = named[..position]
            .iter()
            .find(|(_, earlier)| earlier.is_some_and(|(_, earlier)| overlap(earlier, *address)));
        if let Some((earlier, _)) = shared {
            reports.error(
                *place,
                format!("the {later} listener has the address of the {earlier} listener"),
                "give each listener a port of its own",
            );
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn warn_of_plain_http(
    listener: &str,
    address: Option<(Place, SocketAddr)>,
    what: &str,
    reports: &mut Reports,
) {
    if let Some((place, address)) = address
        && !address.ip().is_loopback()
    {
        reports.warn(
            place,
            format!("the {listener} listener speaks plain HTTP on {address}, which is not a loopback address"),
            format!("whoever can listen on the network can read {what}: give the listener `tls`, or put it behind something that speaks TLS"),
        );
    }
}

fn proxies(raw: Option<&[At<Network>]>, reports: &mut Reports) -> Vec<Cidr> {
    let raw = raw.unwrap_or_default();
    for at in raw.iter().filter(|at| at.value.0.prefix_bits == 0) {
        reports.warn(
            at.place,
            "every peer may say what its address is",
            "name the addresses of your own proxies",
        );
    }
    raw.iter().map(|at| at.value.0).collect()
}

/// Where approvers find the console.
struct ConsoleUrl {
    whole: Box<str>,
    /// Lower case, without port.
    host: Box<str>,
}

/// `https://host[:port]`. `None`: reported.
fn console_url(written: &str, place: Place, reports: &mut Reports) -> Option<ConsoleUrl> {
    const FORM: &str = "write `https://host` or `https://host:port`: the console has its own paths";
    let lower = written.to_ascii_lowercase();
    let whole = lower.strip_suffix('/').unwrap_or(&lower);
    let rest = whole
        .strip_prefix("https://")
        .or_else(|| whole.strip_prefix("http://"));
    let host = rest.and_then(|rest| match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .map(|_| host),
        Some(_) | None => Some(rest),
    });
    let Some(host) = host.filter(|host| is_host(host)) else {
        reports.error(
            place,
            "this is not where a browser could find the console",
            FORM,
        );
        return None;
    };
    Some(ConsoleUrl {
        host: host.into(),
        whole: whole.into(),
    })
}

/// What is written. The host of the console's URL must be among it: who follows a link there would be turned away.
fn hosts(
    written: &[At<HostName>],
    console: Option<&str>,
    url: Option<&At<Text>>,
    reports: &mut Reports,
) -> Vec<String> {
    let hosts: Vec<String> = written.iter().map(|at| at.value.0.to_string()).collect();
    if let (Some(console), Some(url)) = (console, url)
        && !hosts.iter().any(|host| host == console)
    {
        reports.error(
            url.place,
            format!(
                "`{console}` is not among `hosts`, so who follows this URL would be turned away"
            ),
            format!("add `{console}` to `hosts`, or remove `hosts`"),
        );
    }
    hosts
}

fn own_hosts(address: Option<SocketAddr>, console: Option<&str>) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned()];
    match address.map(|address| address.ip()) {
        Some(IpAddr::V6(ip)) => hosts.push(format!("[{ip}]")),
        Some(IpAddr::V4(ip)) => hosts.push(ip.to_string()),
        None => {}
    }
    hosts.extend(console.map(str::to_owned));
    hosts.dedup();
    hosts
}

fn timeouts(raw: Option<&At<raw::Timeouts>>) -> Timeouts {
    let raw = raw.map(|at| &at.value);
    Timeouts {
        tls: or(raw.and_then(|raw| raw.tls.as_ref()), |span| span.0, TLS),
        head: or(raw.and_then(|raw| raw.head.as_ref()), |span| span.0, HEAD),
        body_idle: or(
            raw.and_then(|raw| raw.body_idle.as_ref()),
            |span| span.0,
            BODY_IDLE,
        ),
        idle: or(raw.and_then(|raw| raw.idle.as_ref()), |span| span.0, IDLE),
    }
}

fn caps(raw: Option<&At<raw::Caps>>) -> Caps {
    let raw = raw.map(|at| &at.value);
    Caps {
        connections: or(
            raw.and_then(|raw| raw.connections.as_ref()),
            |n| n.0,
            CONNECTIONS,
        ),
        per_address: or(
            raw.and_then(|raw| raw.per_address.as_ref()),
            |n| n.0,
            PER_ADDRESS,
        ),
    }
}

const TLS: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(10);
const BODY_IDLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(75);
const CONNECTIONS: u32 = 20_000;
const PER_ADDRESS: u32 = 16_384;
const FAILED_TRIES: u32 = 6000;
const BODY_RATE: u32 = 500;
