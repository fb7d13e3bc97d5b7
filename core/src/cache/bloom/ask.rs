//! The readers' side: may the key exist?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Filters;
use super::known::MAY_SAY_NO;
use super::local::LocalBits;
use super::shape::{Place, Shape};
use super::shared::Answer;
use super::standing::Name;
use crate::base::Deadline;

/// The copy of one generation.
pub(super) struct Local {
    shape: Shape,
    bits: Arc<LocalBits>,
}

impl Filters {
    /// For each key of a family whether it may exist. Never fails: who cannot be asked says "maybe".
    pub(crate) async fn may_exist<K: AsRef<str>>(
        &self,
        pattern: &str,
        keys: &[K],
        deadline: Deadline,
    ) -> Vec<bool> {
        self.note_use();
        let name = self.name_of(pattern);
        let mut all = vec![true; keys.len()];
        let (Some(declared), Some(shared)) = (self.declared(&name), &self.shared) else { return all };
        let Ok(reading) = self.known.at_most(MAY_SAY_NO, deadline).await else { return all };
        let Some(standing) = reading.families.iter().find(|it| it.name == name) else { return all };
        let Some(shape) = standing.serving.filter(|_| !standing.is_open()) else { return all };
        let local = self.local(&name, &shape);
        let places = keys.iter().map(|key| shape.place(key.as_ref())).enumerate();
        let (ats, places): (Vec<usize>, Vec<Place>) =
            places.filter(|(_, place)| !local.as_ref().is_some_and(|local| local.has(place))).unzip();
        if places.is_empty() {
            return all;
        }
        let answers = match shared.ask(&standing.shelf, &shape, &places, deadline).await {
            Ok(answers) => answers,
            Err(error) => {
                log::debug!("a Bloom filter could not be asked: {error}");
                return all;
            }
        };
        // Looked at now: this process may have been stopped, or Redis slow.
        let fresh = self.known.is_fresh(&reading, MAY_SAY_NO);
        let mut there = Vec::new();
        for ((at, place), answer) in ats.into_iter().zip(places).zip(answers) {
            match answer {
                Answer::No if fresh => all[at] = false,
                Answer::No => {}
                Answer::Maybe => there.push(place),
                Answer::Doubt => self.suspect(&name, &shape),
            }
        }
        self.learn(&name, &shape, &there);
        declared.noes.fetch_add(all.iter().filter(|may| !**may).count() as u64, Ordering::Relaxed);
        all
    }

    fn local(&self, name: &Name, shape: &Shape) -> Option<Arc<LocalBits>> {
        let declared = self.declared(name)?;
        let local = declared.local.lock();
        local.as_ref().filter(|local| local.shape == *shape).map(|local| local.bits.clone())
    }

    /// Notes in the copy that these bits are set.
    pub(super) fn learn(&self, name: &Name, shape: &Shape, places: &[Place]) {
        let Some(declared) = self.declared(name).filter(|_| !places.is_empty()) else { return };
        let bits = {
            let mut local = declared.local.lock();
            match local.as_ref() {
                Some(local) if local.shape == *shape => local.bits.clone(),
                // One that is being built is not asked yet.
                Some(local) if local.shape.generation > shape.generation => return,
                _ => {
                    let bits = Arc::new(LocalBits::new(shape));
                    *local = Some(Local { shape: *shape, bits: bits.clone() });
                    bits
                }
            }
        };
        places.iter().for_each(|place| bits.add(place));
    }

    /// Notes that a generation is not as it should be, so that it is looked at and built anew.
    pub(super) fn suspect(&self, name: &Name, shape: &Shape) {
        if let Some(declared) = self.declared(name) {
            declared.watched.lock().suspect = Some(shape.generation);
            self.wanted_now.notify_one();
        }
    }
}
