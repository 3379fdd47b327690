use super::*;
use rusqlite::types::Value;

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn value(&mut self) -> Value {
        match self.next(9) {
            0 => Value::Null,
            1 => Value::Integer(self.next(5) as i64),
            2 => Value::Integer([i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1, -1][self.next(5) as usize]),
            3 => Value::Real(
                [0.1, 1.0, -0.0, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, 1.0 / 3.0]
                    [self.next(9) as usize],
            ),
            4 => Value::Real(f64::from_bits(self.next(1 << 31) << 31 | 0x3ff0_0000_0000_0000)),
            5 => Value::Blob((0..self.next(40)).map(|_| self.next(256) as u8).collect()),
            6 => Value::Text(
                ["", "'", "''", "a'b\"c", "\0", "a\0b", "x'00'", " x'41' ", "random()", "é\u{2028}𝄞", "-- ;"]
                    [self.next(11) as usize]
                    .to_owned(),
            ),
            _ => Value::Text((0..self.next(30)).map(|_| char::from(self.next(128) as u8)).collect()),
        }
    }

    fn name(&mut self) -> String {
        ["a", "b'c", "d\0e", "É"][self.next(4) as usize].to_owned()
    }

    fn step(&mut self, t: &Transaction<'_>) -> rusqlite::Result<usize> {
        let (name, number, value) = (self.name(), self.next(6) as i64, self.value());
        match self.next(12) {
            0 | 1 => t.execute("INSERT OR IGNORE INTO parents VALUES (?1, ?2, ?3)", params![name, value, 0.1]),
            2 => t.execute("INSERT OR REPLACE INTO parents VALUES (?1, ?2, ?3)", params![name, value, -1e-7]),
            3 | 4 => t.execute(
                "INSERT OR REPLACE INTO children SELECT name, ?2, ?3 FROM parents WHERE name = ?1",
                params![name, number, value],
            ),
            5 => t.execute("DELETE FROM parents WHERE name = ?1", [name]),
            6 => t.execute("UPDATE OR REPLACE children SET number = number + 10, value = ?1 WHERE number < 3", [value]),
            7 => t.execute("DELETE FROM children WHERE number > 3", []),
            8 => t.execute("INSERT OR REPLACE INTO counted (value, word) VALUES (?1, ?2)", params![value, name]),
            9 => t.execute(
                "INSERT INTO counted (value, word) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                params![value, name],
            ),
            10 => t.execute("DELETE FROM counted WHERE id % 2 = ?1", [number % 2]),
            _ => t.execute("INSERT OR IGNORE INTO added VALUES (?1)", [number.to_le_bytes()]),
        }
    }
}

#[test]
fn copies_and_rqlite_have_the_same_whatever_is_done() {
    let Some(bench) = Bench::new(1) else { return };
    let nodes = [bench.node(), bench.node()];
    for seed in 0..60 {
        let node = &nodes[(seed % 2) as usize];
        node.database
            .change(|t| {
                // It may run twice.
                let mut random = Random(seed);
                (0..25).try_for_each(|_| random.step(t).map(drop))
            })
            .unwrap();
    }
    nodes.iter().for_each(|node| bench.compare(&node.database));
    assert!(all(&nodes[0].database).len() > 10);
    // A new copy is made of the log, and one of all that is there.
    bench.compare(&bench.node().database);
    bench.meddle("DELETE FROM orama_log WHERE gen < (SELECT max(gen) FROM orama_log)");
    let copied = bench.node();
    bench.compare(&copied.database);
    let given = copied.database.read(|c| Ok::<_, rusqlite::Error>(sequence(c))).unwrap();
    assert_eq!(given, sequence(&bench.backup()), "no number of a row that was deleted is given again");
}
