//! Selects the member of the Olric cluster that increments a counter.
//!
//! Olric increments under a lock of the member that receives the call, and not of the member that stores the counter. All nodes
//! must therefore call the same member for the same counter: a hash selects it.

use super::entry::Version;
use crate::limits::OLRIC_MEMBERS_EVERY;
use crate::olric::{Again, Olric, OlricError, Shape};
use redis::Value;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The members, as Olric reported them recently.
#[derive(Default)]
pub(super) struct Members(Mutex<Option<(Instant, Arc<[String]>)>>);

impl Members {
    /// The member for a counter. `None` if there is only one member, because its address may differ here.
    pub(super) async fn of(
        &self,
        olric: &Olric,
        version: Version,
        until: Instant,
    ) -> Result<Option<String>, OlricError> {
        let names = self.names(olric, until).await?;
        if names.len() == 1 {
            return Ok(None);
        }
        Ok(chosen(&names, &version.key()).cloned())
    }

    /// Makes the list stale, so that the next increment fetches it.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }

    async fn names(&self, olric: &Olric, until: Instant) -> Result<Arc<[String]>, OlricError> {
        // The first caller fetches the list for all that wait here.
        let mut known = self.0.lock().await;
        if let Some((asked, names)) = &*known
            && asked.elapsed() < OLRIC_MEMBERS_EVERY
        {
            return Ok(Arc::clone(names));
        }
        let begun = Instant::now();
        let command = redis::cmd("CLUSTER.MEMBERS");
        let answer = olric.ask(&command, Shape::List, Again::WhenLate, until).await?;
        let names: Arc<[String]> = parse(answer).ok_or(OlricError::Strange)?.into();
        *known = Some((begun, Arc::clone(&names)));
        Ok(names)
    }
}

fn parse(answer: Value) -> Option<Vec<String>> {
    let Value::Array(members) = answer else { return None };
    let name = |member: Value| {
        let Value::Array(fields) = member else { return None };
        match fields.into_iter().next()? {
            Value::BulkString(name) => String::from_utf8(name).ok(),
            _ => None,
        }
    };
    let names: Option<Vec<_>> = members.into_iter().map(name).collect();
    names.filter(|names| !names.is_empty())
}

/// The member with the highest hash (rendezvous hashing): when one leaves, only its counters move.
fn chosen<'a>(names: &'a [String], key: &str) -> Option<&'a String> {
    names.iter().max_by_key(|name| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(name.as_bytes()).update(&[0]).update(key.as_bytes());
        *hasher.finalize().as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_and_nothing_else() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let member = |name| Value::Array(vec![text(name), Value::Int(1), text("true")]);
        assert_eq!(parse(Value::Array(vec![member("a:1"), member("b:2")])).unwrap(), ["a:1", "b:2"]);
        for answer in [Value::Okay, Value::Array(vec![]), Value::Array(vec![text("a:1")])] {
            assert_eq!(parse(answer), None);
        }
    }

    #[test]
    fn every_node_chooses_alike_and_a_member_that_leaves_moves_only_its_own() {
        let names: Vec<String> = (0..3).map(|n| format!("10.0.0.{n}:3320")).collect();
        let mut reversed = names.clone();
        reversed.reverse();
        let mut counts = [0; 3];
        for n in 0..300 {
            let key = format!("{n:032x}");
            let member = chosen(&names, &key).unwrap();
            assert_eq!(chosen(&reversed, &key), Some(member));
            let index = names.iter().position(|name| name == member).unwrap();
            counts[index] += 1;
            if index != 2 {
                assert_eq!(chosen(&names[..2], &key), Some(member));
            }
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
