//! Which member of the Olric cluster counts a number.
//!
//! Olric adds under a lock of the member that was asked, not of the one that keeps the number. So all nodes ask the same member
//! for the same number: the one that a hash chooses among those that there are.

use super::entry::Version;
use crate::limits::OLRIC_MEMBERS_EVERY;
use crate::olric::{Again, Olric, OlricError, Shape};
use redis::Value;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The members as they were told a moment ago.
#[derive(Default)]
pub(super) struct Members(Mutex<Option<(Instant, Arc<[String]>)>>);

impl Members {
    /// The member for a number; `None` when there is a single one, whatever its address is called here.
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

    /// They are asked for before the next number.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }

    async fn names(&self, olric: &Olric, until: Instant) -> Result<Arc<[String]>, OlricError> {
        // Whoever is first asks for all who wait here.
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

/// The member with the highest hash: when one leaves, only what it counted moves.
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
