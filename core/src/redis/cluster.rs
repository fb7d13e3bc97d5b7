//! A cluster: the crate finds the node of each key, and its masters are looked at beside it.

use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::cluster::{ClusterClient, ClusterConfig};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use ::redis::{Client, Cmd, ConnectionInfo, ProtocolVersion, RedisResult, Value};
use parking_lot::Mutex;

use crate::base::Clock;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::redis::failure::Failure;
use crate::redis::link::{dead_after, is_tls, open, parse};
use crate::redis::masters::Masters;
use crate::redis::silence::Silence;
use crate::redis::{RedisSettings, address};

pub(super) struct Cluster {
    pub(super) masters: Masters,
    pub(super) endpoint: String,
    pub(super) silence: Silence,
    client: ClusterClient,
    connect_timeout: Duration,
    command_timeout: Duration,
    connection: Mutex<ClusterConnection>,
}

impl Cluster {
    /// One that connects with its first command.
    pub(super) fn new(nodes: &[Secret], settings: &RedisSettings) -> Result<Cluster> {
        let infos = nodes.iter().map(|node| parse(node, settings)).collect::<Result<Vec<_>>>()?;
        let endpoint = infos.iter().map(|info| address::endpoint(info.addr())).collect::<Vec<_>>().join(", ");
        let seeds = infos.iter().map(|info| open(info.clone(), settings, &endpoint));
        let masters = Masters::new(
            seeds.collect::<Result<Vec<Client>>>()?,
            settings.connect_timeout,
            settings.command_timeout,
        );
        let client = client(infos, settings, &masters, &endpoint)?;
        let (connect_timeout, command_timeout) = (settings.connect_timeout, settings.command_timeout);
        let connection = Mutex::new(connect(&client, connect_timeout, command_timeout));
        // A new one is given the time to reach every node.
        let silence = Silence::new(connect_timeout + dead_after(settings), Clock::system());
        Ok(Cluster { masters, endpoint, silence, client, connect_timeout, command_timeout, connection })
    }

    /// Sends to whichever node the command's keys belong to.
    pub(super) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        self.connection().req_packed_command(cmd).await
    }

    /// Sends to the master of the first slot.
    pub(super) async fn send_to_first(&self, cmd: &Cmd) -> RedisResult<Value> {
        let first = SingleNodeRoutingInfo::SpecificNode(Route::new(0, SlotAddr::Master));
        self.connection().route_command(cmd.clone(), RoutingInfo::SingleNode(first)).await
    }

    /// Begins anew: the crate may wait for itself for ever, when a node is reconnected while the slots are asked for.
    pub(super) fn renew(&self) {
        log::debug!("no node of the cluster at {} has answered for long: connecting anew", self.endpoint);
        let mut connection = self.connection.lock();
        // Before anything can be sent on the new one.
        self.masters.note_loss();
        *connection = connect(&self.client, self.connect_timeout, self.command_timeout);
        self.silence.end();
    }

    fn connection(&self) -> ClusterConnection {
        self.connection.lock().clone()
    }
}

fn client(
    infos: Vec<ConnectionInfo>,
    settings: &RedisSettings,
    masters: &Masters,
    endpoint: &str,
) -> Result<ClusterClient> {
    let Some(first) = infos.first().cloned() else {
        return Err(Error::config(
            "redis_addr: the list of cluster nodes is empty; name at least one host:port",
        ));
    };
    let mut builder = ClusterClient::builder(infos)
        .retries(1)
        .min_retry_wait(10)
        .max_retry_wait(50)
        .tcp_settings(first.tcp_settings().clone());
    // With RESP2 the loss of a connection shows in the next survey only.
    if first.redis_settings().protocol() != ProtocolVersion::RESP2 {
        builder = builder.push_sender(masters.on_push());
    }
    if is_tls(&first) {
        builder = builder.certs(address::certificates(settings)?);
    }
    builder.build().map_err(|error| Failure::Reported(error).at_connect(endpoint))
}

fn connect(
    client: &ClusterClient,
    connect_timeout: Duration,
    command_timeout: Duration,
) -> ClusterConnection {
    let config =
        ClusterConfig::new().set_connection_timeout(connect_timeout).set_response_timeout(command_timeout);
    client.get_pending_async_connection_with_config(config)
}
