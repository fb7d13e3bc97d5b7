//! The cache toolbox: what one does with a cache beside reading and writing it. PostgreSQL is not told of any of this.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;

use super::limits::{check_data, check_key, check_prefix, check_tags, check_write};
use super::write::own;
use super::{WriteOptions, Zmsg};
use crate::base::{Deadline, service};
use crate::cache::{Left, NewValue};
use crate::config::Ttl;
use crate::error::Result;

/// Keys of one call that are on their way to Redis at once.
const CHUNK: usize = 500;

impl Zmsg {
    /// Puts a value into the caches if there is none; says whether it did. A cached absence is none. While a writer of the key
    /// is under way it does nothing. The database is not asked: a key that only its source has is one without a value.
    ///
    /// # Errors
    /// As [`Zmsg::cache_only`]; after `Cache` the value may be there.
    pub async fn add(&self, key: &str, data: Bytes, options: WriteOptions) -> Result<bool> {
        check_key(&self.state.config, key)?;
        check_data(&self.state.config, key, &data)?;
        check_write("add", &self.state.config, &options)?;
        let (zmsg, key, data) = (self.clone(), key.to_owned(), own(&data));
        self.toolbox("adding a value to the caches", async move {
            let (state, deadline) = (&zmsg.state, zmsg.state.cache_deadline());
            let value = state.value(data, &options).await?;
            state.caches.add(state.caches.begin(&[key]), value, deadline).await
        })
        .await
    }

    /// Gives what is cached under a key a new life, counted from now; `None` is `default_ttl`. Says whether there was a value.
    ///
    /// # Errors
    /// `Task` for a bad key, `Cache` if Redis failed.
    pub async fn touch(&self, key: &str, ttl: Option<Ttl>) -> Result<bool> {
        check_key(&self.state.config, key)?;
        let (zmsg, key) = (self.clone(), key.to_owned());
        self.toolbox("giving a key a new life", async move {
            let (caches, deadline) = (&zmsg.state.caches, zmsg.state.cache_deadline());
            caches.touch(caches.begin(&[key]), ttl, deadline).await
        })
        .await
    }

    /// What is left of the life of what is cached under a key. Without Redis it is what is left of its stay in process
    /// memory, which `l1_ttl` bounds.
    ///
    /// # Errors
    /// As [`Zmsg::touch`].
    pub async fn ttl(&self, key: &str) -> Result<Left> {
        check_key(&self.state.config, key)?;
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.caches.left(key, deadline).await
    }

    /// Adds `by` to a counter in the caches and gives the sum; it begins at 0. Exact and atomic among all processes. The value
    /// is the number as decimal text. `ttl` is the life of a counter that this call makes (`None` is `default_ttl`); one that
    /// is there keeps its end.
    ///
    /// # Errors
    /// `Task` if the value under the key is no such number, or has tags, or the sum would exceed 64 bits: then nothing
    /// has changed. `Cache` if Redis failed, and then nobody knows whether it counted, or, to be tried again, while a writer
    /// of the key is under way.
    pub async fn incr(&self, key: &str, by: i64, ttl: Option<Ttl>) -> Result<i64> {
        check_key(&self.state.config, key)?;
        let (zmsg, key) = (self.clone(), key.to_owned());
        self.toolbox("counting in the caches", async move {
            let (caches, deadline) = (&zmsg.state.caches, zmsg.state.cache_deadline());
            caches.incr(caches.begin(&[key]), by, ttl, deadline).await
        })
        .await
    }

    /// As [`Zmsg::cache_only`] for many values at once, in flights of five hundred. Of a key that is named twice the last value
    /// counts.
    ///
    /// # Errors
    /// As [`Zmsg::cache_only`], for the first one that failed; the others are cached.
    pub async fn cache_many(&self, items: Vec<(String, Bytes)>, options: WriteOptions) -> Result<()> {
        check_write("cache_many", &self.state.config, &options)?;
        for (key, data) in &items {
            check_key(&self.state.config, key)?;
            check_data(&self.state.config, key, data)?;
        }
        let items: HashMap<String, Bytes> = items.into_iter().map(|(key, data)| (key, own(&data))).collect();
        let items: Vec<(String, Bytes)> = items.into_iter().collect();
        let zmsg = self.clone();
        self.toolbox("putting values into the caches", async move {
            let (state, mut done) = (&zmsg.state, Ok(()));
            for chunk in items.chunks(CHUNK) {
                let tags = state.caches.tags(&options.tags, state.cache_deadline()).await?;
                let puts = chunk.iter().map(|(key, data)| {
                    let value = NewValue { data: data.clone(), ttl: options.ttl, tags: tags.clone() };
                    state.put_key(state.caches.begin(&[key]), value, None)
                });
                done = join_all(puts).await.into_iter().fold(done, Result::and);
            }
            done
        })
        .await
    }

    /// As [`Zmsg::del`] for many keys at once, in flights of five hundred.
    ///
    /// # Errors
    /// As [`Zmsg::del`], for the first flight that failed; process memory has dropped all of them.
    pub async fn delete_many<K: AsRef<str>>(&self, keys: &[K]) -> Result<()> {
        keys.iter().try_for_each(|key| check_key(&self.state.config, key.as_ref()))?;
        let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        let zmsg = self.clone();
        self.toolbox("dropping keys from the caches", async move {
            let mut done = Ok(());
            for chunk in keys.chunks(CHUNK) {
                done = done.and(zmsg.state.drop_keys(zmsg.state.caches.begin(chunk)).await);
            }
            done
        })
        .await
    }

    /// The keys that begin with `prefix` and have a value in Redis, in order; without Redis, in process memory. All of them
    /// are held at once, and all keys of the server are walked over: for maintenance, not for requests.
    ///
    /// # Errors
    /// `Task` for a prefix that is longer than a key, `Cache` if Redis failed, or while slots of a cluster are being moved.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        check_prefix(&self.state.config, prefix)?;
        let _call = self.enter()?;
        let deadline = self.deadline();
        let walking = self.state.caches.keys(prefix, deadline);
        deadline.run("looking for keys", walking).await?
    }

    /// Drops every key that begins with `prefix` from every cache; gives how many entries Redis had. The memory of every
    /// process is emptied as a whole. What is written meanwhile may stay. Walks over all keys of the server.
    ///
    /// # Errors
    /// As [`Zmsg::keys`]; some of the keys may be there then.
    pub async fn clear(&self, prefix: &str) -> Result<u64> {
        check_prefix(&self.state.config, prefix)?;
        let (zmsg, prefix, deadline) = (self.clone(), prefix.to_owned(), self.deadline());
        self.toolbox("dropping the keys of a prefix", async move {
            zmsg.state.caches.clear(&prefix, deadline).await
        })
        .await
    }

    /// Drops everything that was written with a tag from every cache, in one step, however much it is. A write that was under
    /// way is dropped too; one that begins after this stays.
    ///
    /// # Errors
    /// `Task` for a bad tag, `Cache` if Redis could not be told; this process's memory has dropped the entries all the same.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<()> {
        check_tags(&self.state.config, &[tag])?;
        let (zmsg, tag) = (self.clone(), tag.to_owned());
        self.toolbox("dropping the entries of a tag", async move {
            zmsg.state.caches.drop_tag(&tag, zmsg.state.cache_deadline()).await
        })
        .await
    }

    /// A call that ends the same way whether or not its caller still listens.
    async fn toolbox<T: Send + 'static>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (call, deadline): (_, Deadline) = (self.enter()?, self.deadline());
        let work = async move {
            let _call = call;
            work.await
        };
        deadline.run(what, service::to_the_end(work)).await?
    }
}
