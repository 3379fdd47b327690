use super::*;

#[test]
fn a_copy_that_is_missing_damaged_or_far_behind_is_made_anew() {
    let Some(bench) = Bench::new(1) else { return };
    let (a, Node { dir, database: b }) = (bench.node(), bench.node());
    insert(&a.database, "one").unwrap();
    bench.compare(&b);
    drop(b);
    let copy = dir.path().join("copy.db");
    for damage in 0..4 {
        insert(&a.database, &format!("more {damage}")).unwrap();
        match damage {
            0 => std::fs::write(&copy, b"this is no file of SQLite, whatever its name says").unwrap(),
            1 => {
                let mut bytes = std::fs::read(&copy).unwrap();
                let half = bytes.len() / 2;
                bytes[half..].fill(0x55);
                std::fs::write(&copy, bytes).unwrap();
            }
            2 => std::fs::remove_file(&copy).unwrap(),
            _ => bench.meddle("DELETE FROM orama_log WHERE gen < (SELECT max(gen) FROM orama_log)"),
        }
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("copy.db{end}")));
        }
        let b = bench.open(dir.path(), NEW).unwrap();
        bench.compare(&b);
        insert(&b, &format!("own {damage}")).unwrap();
        bench.compare(&a.database);
    }
    assert_eq!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".copy"))
            .count(),
        0
    );
}

#[test]
fn a_copy_that_knows_more_than_rqlite_goes_back_with_it_while_it_runs() {
    let Some(bench) = Bench::new(1) else { return };
    let (a, b) = (bench.node(), bench.node());
    for word in ["kept", "lost"] {
        insert(&a.database, word).unwrap();
    }
    bench.compare(&b.database);
    let told = Arc::new(Mutex::new(0));
    let telling = Arc::clone(&told);
    b.database.on_applied(move |applied| *telling.lock() += u32::from(applied.is_whole));
    // What restoring an older backup does.
    bench.meddle(
        "DELETE FROM counted WHERE word = 'lost'; DELETE FROM orama_log WHERE gen = (SELECT max(gen) FROM orama_log)",
    );
    for node in [&a, &b] {
        eventually("it went back", || words(&node.database) == ["kept"]);
    }
    eventually("it was told", || *told.lock() == 1);
    insert(&a.database, "after").unwrap();
    bench.compare(&b.database);
    // And then went on another way: as many commits, but others.
    bench.meddle("UPDATE orama_log SET id = 'another' WHERE gen = (SELECT max(gen) FROM orama_log)");
    eventually("it is made anew", || *told.lock() == 2);
    insert(&b.database, "at last").unwrap();
    bench.compare(&a.database);
}

#[test]
fn a_copy_is_kept_when_rqlite_has_lost_everything() {
    let Some(bench) = Bench::new(1) else { return };
    let a = bench.node();
    insert(&a.database, "precious").unwrap();
    bench.meddle("DELETE FROM orama_log");
    let refused = insert(&a.database, "more").unwrap_err();
    assert!(refused.unavailable().is_some(), "{refused}");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(words(&a.database), ["precious"]);
}

#[test]
fn what_rqlite_does_not_take_makes_the_copy_anew() {
    let Some(bench) = Bench::new(1) else { return };
    let a = bench.node();
    // The tables are not what the log says.
    bench.meddle("INSERT INTO counted (id, word) VALUES (7, 'w')");
    assert!(insert(&a.database, "w").is_err());
    eventually("it has what is there", || words(&a.database) == ["w"]);
    eventually("it can be written", || insert(&a.database, "v").is_ok());
    assert_eq!(words(&a.database), ["w", "v"]);
}
