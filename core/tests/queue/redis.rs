//! Hands on the keys of a queue, as nobody should have them.

use redis::aio::MultiplexedConnection;

use crate::support::queue_addr;

/// A connection to the queue's Redis.
pub struct Meddler(MultiplexedConnection);

pub async fn redis_client() -> Meddler {
    Meddler::at(&queue_addr()).await
}

impl Meddler {
    pub async fn at(addr: &str) -> Meddler {
        let client = redis::Client::open(format!("redis://{addr}")).unwrap();
        Meddler(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// Any command; a word that begins with `@` names a part of the queue of this namespace.
    pub async fn run(&self, namespace: &str, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            match word.strip_prefix('@') {
                Some(part) => command.arg(format!("{namespace}:q:{{.default}}:{part}")),
                None => command.arg(word),
            };
        }
        command.query_async(&mut self.0.clone()).await.unwrap()
    }

    /// Makes an operation due two days ago.
    pub async fn age(&self, namespace: &str, op_id: &str) {
        self.change(namespace, op_id, |body| {
            let due: u64 = std::str::from_utf8(&body[..13]).unwrap().parse().unwrap();
            body[..13].copy_from_slice(format!("{:013}", due - 2 * 86_400_000).as_bytes());
        })
        .await;
    }

    /// Makes its payload one of another version.
    pub async fn change_version(&self, namespace: &str, op_id: &str) {
        self.change(namespace, op_id, |body| {
            let lane: usize = std::str::from_utf8(&body[30..35]).unwrap().parse().unwrap();
            body[35 + lane] = 9;
        })
        .await;
    }

    async fn change(&self, namespace: &str, op_id: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let (mut connection, bodies) = (self.0.clone(), format!("{namespace}:q:{{.default}}:bodies"));
        let mut body: Vec<u8> =
            redis::cmd("HGET").arg(&bodies).arg(op_id).query_async(&mut connection).await.unwrap();
        change(&mut body);
        let () =
            redis::cmd("HSET").arg(&bodies).arg(op_id).arg(body).query_async(&mut connection).await.unwrap();
    }
}
