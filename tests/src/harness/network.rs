//! Networks of Linux that lose packets: each node of a fleet in a namespace of its own, on a bridge to the others and the
//! services, with rules that lose what passes.

use std::io::Write;
use std::process::{Command, Stdio};

/// What is lost of what a node sends and gets, all of it, beside what is lost by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// All that it sends to that node; what that one sends arrives.
    ToNode(usize),
    /// All that it sends to the services; their answers arrive.
    ToServices,
    /// All that the services send; what it asks arrives.
    FromServices,
}

/// Namespaces, one for each node. Dropping it removes them.
pub struct Network {
    /// Part of every name, and of every address.
    number: u8,
    nodes: usize,
    services: String,
}

impl Network {
    /// A network for so many nodes, which loses nothing yet; `None`, and says so, where namespaces and rules cannot be made: that
    /// takes Linux, root, `ip` and `nft`.
    #[must_use]
    pub fn lay(nodes: usize) -> Option<Self> {
        // Two runs on one machine have different ones, as a rule.
        let number = u8::try_from(std::process::id() % 200).unwrap_or_default() + 1;
        let network = Self {
            number,
            nodes,
            services: format!("10.77.{number}.2"),
        };
        network.take_down();
        if let Err(why) = network.put_up() {
            println!("skipped: no network that loses packets can be made here: {why}");
            return None;
        }
        Some(network)
    }

    /// The address by which nodes reach the services.
    #[must_use]
    pub fn services_host(&self) -> &str {
        &self.services
    }

    /// The address of a node.
    #[must_use]
    pub fn node_host(&self, node: usize) -> String {
        format!("10.77.{}.{}", self.number, 10 + node)
    }

    /// The namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: usize) -> String {
        format!("stonechat{}n{node}", self.number)
    }

    /// Changes what is lost at a node: so many packets of a hundred in either direction, by chance, and this.
    ///
    /// # Panics
    /// The rules are refused.
    pub fn lose(&self, node: usize, percent: u8, loss: Loss) {
        self.rule(node, percent, loss).expect("rules were taken before");
    }

    /// The same at every node.
    ///
    /// # Panics
    /// The rules are refused.
    pub fn lose_everywhere(&self, percent: u8) {
        for node in 0..self.nodes {
            self.lose(node, percent, Loss::Nothing);
        }
    }

    fn bridge(&self) -> String {
        format!("stonechat{}", self.number)
    }

    fn put_up(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        for host in [1, 2] {
            let address = format!("10.77.{}.{host}/24", self.number);
            ip(&["addr", "add", &address, "dev", &bridge])?;
        }
        ip(&["link", "set", &bridge, "up"])?;
        (0..self.nodes).try_for_each(|node| self.put_up_node(node, &bridge))
    }

    fn put_up_node(&self, node: usize, bridge: &str) -> Result<(), String> {
        let (namespace, outer) = (self.namespace(node), format!("sc{}v{node}", self.number));
        ip(&["netns", "add", &namespace])?;
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        ip(&["link", "set", &outer, "master", bridge, "up"])?;
        let address = format!("{}/24", self.node_host(node));
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
        for device in ["lo", "eth0"] {
            ip(&["-n", &namespace, "link", "set", device, "up"])?;
        }
        self.lead_home(&namespace)?;
        self.rule(node, 0, Loss::Nothing)
    }

    /// The CQL driver takes servers for where they say they are, which is loopback: what goes there goes to the services.
    fn lead_home(&self, namespace: &str) -> Result<(), String> {
        let inside = ["netns", "exec", namespace];
        let local = [&inside[..], &["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"]].concat();
        run("ip", &local, "")?;
        let rules = format!(
            "table ip home {{\n\
             chain sends {{ type nat hook output priority -100; ip daddr 127.0.0.1 meta l4proto tcp dnat to {}; }}\n\
             chain leaves {{ type nat hook postrouting priority 100; oif eth0 masquerade; }}\n}}\n",
            self.services
        );
        run("ip", &[&inside[..], &["nft", "-f", "-"]].concat(), &rules)
    }

    fn rule(&self, node: usize, percent: u8, loss: Loss) -> Result<(), String> {
        let services = &self.services;
        let (mut gets, mut sends) = (String::new(), String::new());
        match loss {
            Loss::Nothing => {}
            Loss::ToNode(other) => sends = format!("ip daddr {} drop;", self.node_host(other)),
            Loss::ToServices => sends = format!("ip daddr {services} drop;"),
            Loss::FromServices => gets = format!("ip saddr {services} drop;"),
        }
        let by_chance = format!("meta l4proto tcp numgen random mod 100 < {percent} drop;");
        // Before and behind the translation of addresses, where they are those of the bridge.
        let rules = format!(
            "add table inet loss\nflush table inet loss\ntable inet loss {{\n\
             chain gets {{ type filter hook prerouting priority -300; iif lo accept; {gets} {by_chance} }}\n\
             chain sends {{ type filter hook postrouting priority 300; oif lo accept; {sends} {by_chance} }}\n}}\n"
        );
        run(
            "ip",
            &["netns", "exec", &self.namespace(node), "nft", "-f", "-"],
            &rules,
        )
    }

    fn take_down(&self) {
        for node in 0..self.nodes {
            // With it goes its end of the line, and with that the other.
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.take_down();
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments, "")
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(told)?;
    }
    let done = child.wait_with_output().map_err(told)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}
