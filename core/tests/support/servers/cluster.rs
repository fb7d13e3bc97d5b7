//! A Redis Cluster of a test's own.

use std::process::Command;

use futures_util::future::join_all;

use super::{RedisServer, wait_for};

/// Three masters, each with a third of the slots, and perhaps a replica of the first.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    pub replica: Option<RedisServer>,
}

impl RedisCluster {
    /// Three masters that keep nothing over a restart but what was saved.
    pub async fn start() -> RedisCluster {
        RedisCluster::start_with(&["--appendonly", "no"]).await
    }

    /// The same, with settings.
    pub async fn start_with(settings: &[&str]) -> RedisCluster {
        let settings = &[&["--cluster-enabled", "yes"], settings].concat();
        let masters = join_all((0..3).map(|_| RedisServer::start_with(settings))).await;
        let addrs = masters.iter().map(|node| node.addr.as_str());
        redis_cli(["--cluster", "create"].into_iter().chain(addrs).chain(["--cluster-yes"]));
        let cluster = RedisCluster { masters, replica: None };
        cluster.is_whole(3).await;
        cluster
    }

    /// With a replica of the first master that has all of its data.
    pub async fn start_with_replica() -> RedisCluster {
        let mut cluster = RedisCluster::start_with(&["--appendonly", "no"]).await;
        let replica = RedisServer::start_with(&["--cluster-enabled", "yes", "--appendonly", "no"]).await;
        let first = &cluster.masters[0].addr;
        redis_cli(["--cluster", "add-node", &replica.addr, first, "--cluster-slave"]);
        let linked =
            async || ask(&replica, &["INFO", "replication"]).contains("link_status:up").then_some(());
        wait_for("the replica has everything", linked).await;
        cluster.replica = Some(replica);
        cluster.is_whole(4).await;
        cluster
    }

    /// A fourth master takes slots from the first, with what is in them.
    pub async fn grow(&mut self, slots: u16) {
        let node = RedisServer::start_with(&["--cluster-enabled", "yes", "--appendonly", "no"]).await;
        let first = self.masters[0].addr.clone();
        redis_cli(["--cluster", "add-node", &node.addr, &first]);
        self.masters.push(node);
        self.is_whole(4).await;
        let [from, to] = [0, 3].map(|at| ask(&self.masters[at], &["CLUSTER", "MYID"]));
        let (from, to, slots) = (from.trim(), to.trim(), slots.to_string());
        let way = ["--cluster-from", from, "--cluster-to", to, "--cluster-slots", &slots, "--cluster-yes"];
        redis_cli(["--cluster", "reshard", &first].into_iter().chain(way));
    }

    /// Where the masters are.
    pub fn addrs(&self) -> Vec<&str> {
        self.masters.iter().map(|node| node.addr.as_str()).collect()
    }

    /// Waits until all nodes know each other, and serve.
    async fn is_whole(&self, nodes: usize) {
        let known = format!("cluster_known_nodes:{nodes}\r");
        let knows = |node| {
            let info = ask(node, &["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains(&known)
        };
        wait_for("the nodes know each other", async || {
            self.masters.iter().chain(&self.replica).all(knows).then_some(())
        })
        .await;
    }
}

/// Asks one node something; gives its answer as text.
pub fn ask(node: &RedisServer, words: &[&str]) -> String {
    let (host, port) = node.addr.split_once(':').expect("host:port");
    redis_cli(["-h", host, "-p", port].into_iter().chain(words.iter().copied()))
}

fn redis_cli<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let said = Command::new("redis-cli").args(words).output().expect("redis-cli comes with the server");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    String::from_utf8_lossy(&said.stdout).into_owned()
}
