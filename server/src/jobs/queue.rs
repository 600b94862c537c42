//! Whose job is next: users take turns, and the jobs of one user go in the order they came.

use std::collections::VecDeque;

use uuid::Uuid;

/// Jobs that wait.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// Users with jobs that wait, the one whose turn it is first.
    users: VecDeque<(String, VecDeque<Uuid>)>,
}

impl FairQueue {
    pub(super) fn push(&mut self, user: &str, job: Uuid) {
        match self.users.iter_mut().find(|(name, _)| name == user) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.users.push_back((user.to_owned(), VecDeque::from([job]))),
        }
    }

    /// The next job of a user who may have one more running.
    pub(super) fn pop(&mut self, may_run: impl Fn(&str) -> bool) -> Option<Uuid> {
        let next = self.users.iter().position(|(user, _)| may_run(user))?;
        let (user, mut jobs) = self.users.remove(next)?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.users.push_back((user, jobs));
        }
        job
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.users.iter().map(|(_, jobs)| jobs.len()).sum()
    }

    /// Takes a job out; false where it does not wait.
    pub(super) fn remove(&mut self, job: Uuid) -> bool {
        let mut found = false;
        self.users.retain_mut(|(_, jobs)| {
            let before = jobs.len();
            jobs.retain(|waiting| *waiting != job);
            found |= jobs.len() < before;
            !jobs.is_empty()
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_and_nobody_starves() {
        let mut queue = FairQueue::default();
        let ids: Vec<Uuid> = (0..7).map(Uuid::from_u128).collect();
        for id in &ids[..4] {
            queue.push("ann", *id);
        }
        queue.push("bob", ids[4]);
        queue.push("bob", ids[5]);
        assert_eq!(queue.pop(|_| true), Some(ids[0]));
        queue.push("eve", ids[6]);
        assert!(queue.remove(ids[2]));
        assert!(!queue.remove(ids[2]));
        let rest: Vec<Uuid> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(rest, [ids[4], ids[1], ids[6], ids[5], ids[3]]);
        assert_eq!(queue.pop(|_| true), None);
    }

    #[test]
    fn who_has_enough_running_is_passed_over_and_keeps_the_place() {
        let mut queue = FairQueue::default();
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        queue.push("ann", ids[0]);
        queue.push("bob", ids[1]);
        queue.push("bob", ids[2]);
        assert_eq!(queue.pop(|user| user != "ann"), Some(ids[1]));
        assert_eq!(queue.pop(|user| user == "eve"), None);
        assert_eq!(queue.pop(|_| true), Some(ids[0]));
        assert_eq!(queue.pop(|_| true), Some(ids[2]));
    }
}
