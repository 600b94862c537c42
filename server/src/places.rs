//! Places of which there are so many in all, and so many for each of those who take them: one who takes
//! all that he may leaves room for the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// See the module. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
    most_of_each: usize,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    of: K,
}

/// No place is left: how many are taken, in all and by the one who asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    pub(crate) all: usize,
    pub(crate) own: usize,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub(crate) fn new(most: usize, most_of_each: usize) -> Self {
        Places { taken: Arc::default(), most, most_of_each }
    }

    /// Takes a place for `of`.
    ///
    /// Errors: none is left, or `of` has as many as one may.
    pub(crate) fn enter(&self, of: K) -> Result<Place<K>, Full> {
        let mut taken = self.taken.lock();
        let (all, own) = (taken.values().sum(), taken.get(&of).copied().unwrap_or(0));
        if all >= self.most || own >= self.most_of_each {
            return Err(Full { all, own });
        }
        taken.insert(of.clone(), own + 1);
        Ok(Place { taken: Arc::clone(&self.taken), of })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().values().sum()
    }

    /// True where nobody is remembered.
    #[cfg(test)]
    pub(crate) fn is_forgotten(&self) -> bool {
        self.taken.lock().is_empty()
    }
}

impl<K: Eq + Hash> Clone for Places<K> {
    fn clone(&self) -> Self {
        Places { taken: Arc::clone(&self.taken), ..*self }
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.of) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.of)),
        }
    }
}
