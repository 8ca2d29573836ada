//! All layers of an image, some of them at the same time.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layer::{LayerError, Wanted, Watch, bring};
use super::origin::Origin;
use super::pull::Event;
use super::store::{Locks, Store};
use super::unpack::Owners;

/// Layers that are brought at the same time.
const AT_ONCE: usize = 4;

/// What brings layers.
pub(crate) struct Layers<'a> {
    pub(crate) store: &'a Store,
    pub(crate) origin: &'a dyn Origin,
    pub(crate) owners: Owners,
    pub(crate) on_event: &'a (dyn Fn(Event) + Sync),
}

/// What the threads share.
struct Work<'a> {
    /// Layers that no thread has taken, by their places.
    queue: Mutex<VecDeque<(usize, &'a Wanted)>>,
    /// Something failed: nothing more is worth while.
    stop: AtomicBool,
    failure: Mutex<Option<LayerError>>,
    layers: AtomicU64,
    bytes: AtomicU64,
}

impl Layers<'_> {
    /// Sees to it that the store has these layers; gives the number of those that were fetched, and their bytes.
    ///
    /// # Errors
    /// The first failure. Layers that were complete before it stay in the store.
    pub(crate) fn bring(&self, layers: &[Wanted]) -> Result<(usize, u64), LayerError> {
        let mut seen = HashSet::new();
        let mut queue: Vec<(usize, &Wanted)> = layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| seen.insert(layer.diff_id))
            .collect();
        // The largest first: so the last one to end is a small one.
        queue.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.blob.size));
        let threads = queue.len().min(AT_ONCE);
        let work = Work {
            queue: Mutex::new(queue.into()),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            layers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(&work));
            }
        });
        match work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok((work.layers.into_inner() as usize, work.bytes.into_inner())),
        }
    }

    /// What each thread does: one layer after the other.
    fn work(&self, work: &Work<'_>) {
        // Layers that another process is bringing; they come last, when they may be there already.
        let mut elsewhere = 0;
        while !work.stop.load(Ordering::Relaxed) {
            let (next, left) = {
                let mut queue = locked(&work.queue);
                (queue.pop_front(), queue.len())
            };
            let Some((place, layer)) = next else { return };
            match self.one(place, layer, elsewhere > left, work) {
                Ok(true) => {}
                Ok(false) => {
                    elsewhere += 1;
                    locked(&work.queue).push_back((place, layer));
                }
                Err(error) => {
                    work.stop.store(true, Ordering::Relaxed);
                    // The first failure is the reason; the others only followed it.
                    if !matches!(error, LayerError::GivenUp) {
                        locked(&work.failure).get_or_insert(error);
                    }
                }
            }
        }
    }

    /// Sees to one layer. False when another process is bringing it, and `wait` is not set.
    fn one(&self, place: usize, layer: &Wanted, wait: bool, work: &Work<'_>) -> Result<bool, LayerError> {
        let done = |fetched| {
            (self.on_event)(Event::Done {
                layer: place,
                fetched,
            });
            Ok(true)
        };
        if self.store.has_layer(layer.diff_id)? {
            return done(false);
        }
        // Held for this layer alone, and nothing is waited for meanwhile: no two processes can wait for each other.
        let Some(_lock) = self.lock(layer, wait)? else {
            return Ok(false);
        };
        if self.store.has_layer(layer.diff_id)? {
            return done(false);
        }
        let come = AtomicU64::new(0);
        let on_bytes = |read: u64| {
            let bytes = come.fetch_add(read, Ordering::Relaxed) + read;
            (self.on_event)(Event::Progress { layer: place, bytes });
        };
        let watch = Watch {
            stop: &work.stop,
            on_bytes: &on_bytes,
        };
        bring(self.store, self.origin, layer, self.owners, &watch)?;
        work.layers.fetch_add(1, Ordering::Relaxed);
        work.bytes.fetch_add(layer.blob.size, Ordering::Relaxed);
        done(true)
    }

    fn lock(&self, layer: &Wanted, wait: bool) -> Result<Option<Locks>, LayerError> {
        let name = format!("pull {}", layer.diff_id);
        let locks = self.store.locks()?;
        let held = match wait {
            true => locks.alone(&name).map(|()| true),
            false => locks.try_alone(&name),
        };
        match held.map_err(|source| self.store.io(format!("lock {name}"), source))? {
            true => Ok(Some(locks)),
            false => Ok(None),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
