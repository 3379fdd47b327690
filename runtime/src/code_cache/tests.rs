use super::*;
use wasmtime::CacheStore;

const MB: u64 = 1 << 20;

struct Folder {
    dir: tempfile::TempDir,
    key: ArtifactKey,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = ArtifactKey::open(&dir.path().join("key")).unwrap();
        Self { dir, key }
    }

    fn cache(&self, mb: u64) -> CodeCache {
        CodeCache::new(self.dir.path().join("code"), &self.key, mb * MB)
    }

    fn files(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.dir.path().join("code")).into_iter().flatten();
        let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn bytes(&self) -> u64 {
        self.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum()
    }

    fn only_file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

fn key(number: u64) -> Key {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn value(number: u64, length: usize) -> Vec<u8> {
    let mut value = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut value);
    value
}

fn put(cache: &CodeCache, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        assert!(cache.insert(&key(number), value(number, length)));
    }
    cache.flush();
}

/// Which of the entries are there, and that those are what was put.
fn found(cache: &CodeCache, numbers: std::ops::Range<u64>, length: usize) -> Vec<u64> {
    numbers
        .filter(|number| match cache.get(&key(*number)) {
            Some(found) => {
                assert!(*found == value(*number, length), "entry {number} is another one");
                true
            }
            None => false,
        })
        .collect()
}

#[test]
fn what_was_flushed_is_there_and_after_a_restart_too() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    assert!(cache.get(&key(0)).is_none());
    assert_eq!(folder.files(), [] as [PathBuf; 0], "nothing is made for a look");
    put(&cache, 0..300, 4000);
    put(&cache, 300..301, 0);
    assert_eq!(found(&cache, 0..300, 4000).len(), 300);
    drop(cache);
    let again = folder.cache(16);
    assert_eq!(found(&again, 0..300, 4000).len(), 300);
    assert_eq!(found(&again, 300..301, 0), [300]);
    put(&again, 400..401, 10);
    assert_eq!(found(&folder.cache(16), 400..401, 10), [400]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.only_file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn odd_keys_and_values_that_are_too_large_are_not_taken() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    assert!(!cache.insert(b"short", vec![1]));
    assert!(cache.get(b"short").is_none());
    assert!(!cache.insert(&key(1), vec![0; CODE_CACHE_ENTRY_MAX_BYTES + 1]));
    put(&cache, 2..3, CODE_CACHE_ENTRY_MAX_BYTES);
    assert_eq!(found(&cache, 2..3, CODE_CACHE_ENTRY_MAX_BYTES), [2]);
}

#[test]
fn every_byte_that_is_changed_costs_entries_and_never_changes_one() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    put(&cache, 0..3, 20);
    put(&cache, 3..6, 20);
    let file = folder.only_file();
    let good = fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        // `found` compares what is found.
        let left = found(&folder.cache(16), 0..6, 20);
        assert!(left.len() < 6, "byte {at} is not looked at");
        assert!(at < good.len() / 2 || left.starts_with(&[0, 1, 2]), "byte {at}: {left:?}");
    }
}

#[test]
fn a_change_while_the_cache_is_open_is_a_miss_and_can_be_made_good() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    put(&cache, 0..2, 20);
    let file = File::options().write(true).open(folder.only_file()).unwrap();
    let end = file.metadata().unwrap().len();
    file.write_all_at(b"forged code", end - 20).unwrap();
    assert_eq!(found(&cache, 0..2, 20), [0]);
    put(&cache, 1..2, 20);
    assert_eq!(found(&cache, 0..2, 20), [0, 1]);
    // The newer of the two is the one that counts, later as well.
    assert_eq!(found(&folder.cache(16), 0..2, 20), [0, 1]);
    // Gone altogether.
    file.set_len(0).unwrap();
    assert_eq!(found(&cache, 0..2, 20), [] as [u64; 0]);
}

#[test]
fn a_file_that_was_cut_anywhere_keeps_what_is_whole_and_takes_more() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    put(&cache, 0..3, 20);
    let first = fs::metadata(folder.only_file()).unwrap().len() as usize;
    put(&cache, 3..6, 20);
    let file = folder.only_file();
    let good = fs::read(&file).unwrap();
    for length in 0..good.len() {
        fs::write(&file, &good[..length]).unwrap();
        let cut = folder.cache(16);
        let whole = if length < first { 0..0 } else { 0..3 };
        assert_eq!(found(&cut, 0..6, 20), whole.collect::<Vec<_>>(), "cut to {length}");
        put(&cut, 7..8, 20);
        assert_eq!(found(&folder.cache(16), 7..8, 20), [7], "cut to {length}");
    }
}

#[test]
fn a_batch_of_which_the_disk_has_the_length_alone_is_a_miss() {
    let folder = Folder::new();
    put(&folder.cache(16), 0..3, 100);
    let file = File::options().write(true).open(folder.only_file()).unwrap();
    let length = file.metadata().unwrap().len();
    // After a power cut the pages of the values may be zeros.
    file.set_len(length - 3 * 132).unwrap();
    file.set_len(length).unwrap();
    assert_eq!(found(&folder.cache(16), 0..3, 100), [] as [u64; 0]);
}

#[test]
fn another_nodes_entries_are_not_taken() {
    let (mine, theirs) = (Folder::new(), Folder::new());
    put(&theirs.cache(16), 0..3, 20);
    fs::create_dir(mine.dir.path().join("code")).unwrap();
    let here = mine.dir.path().join("code").join("00000000.code");
    fs::copy(theirs.only_file(), &here).unwrap();
    assert_eq!(found(&mine.cache(16), 0..3, 20), [] as [u64; 0]);
    assert!(!here.exists(), "a foreign file takes room");
}

#[test]
fn an_entry_under_another_key_is_not_taken() {
    let folder = Folder::new();
    put(&folder.cache(16), 0..2, 20);
    let file = folder.only_file();
    let good = fs::read(&file).unwrap();
    let mut swapped = good.clone();
    let at = good.len() - 2 * 52;
    // The values with their tags change places: each is authentic, but not here.
    swapped[at..at + 52].copy_from_slice(&good[at + 52..]);
    swapped[at + 52..].copy_from_slice(&good[at..at + 52]);
    fs::write(&file, swapped).unwrap();
    assert_eq!(found(&folder.cache(16), 0..2, 20), [] as [u64; 0]);
}

#[test]
fn the_bound_is_kept_and_the_oldest_goes_first() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    for round in 0..40 {
        put(&cache, round * 10..(round + 1) * 10, 60_000);
        assert!(folder.bytes() <= 16 * MB, "{} bytes", folder.bytes());
    }
    assert!(folder.bytes() > 12 * MB, "{} bytes", folder.bytes());
    assert!(folder.files().len() <= 9, "{:?}", folder.files());
    // From the newest, as what is used of the oldest comes again.
    let left: Vec<_> = (0..400).rev().filter(|number| cache.get(&key(*number)).is_some()).collect();
    assert_eq!(left, (400 - left.len() as u64..400).rev().collect::<Vec<_>>(), "not the oldest went");
    drop(cache);
    // A lower bound holds from the next start on.
    let smaller = folder.cache(8);
    assert_eq!(smaller.get(&key(399)).as_deref(), Some(value(399, 60_000).as_slice()));
    assert!(folder.bytes() <= 8 * MB, "{} bytes", folder.bytes());
}

#[test]
fn what_is_used_stays_however_much_comes() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    put(&cache, 0..20, 60_000);
    for round in 1..60 {
        put(&cache, round * 100..round * 100 + 20, 60_000);
        // As a compilation that finds half of the first ones.
        assert_eq!(found(&cache, 0..10, 60_000).len(), 10, "round {round}");
        cache.flush();
        assert!(folder.bytes() <= 16 * MB);
    }
    assert_eq!(found(&cache, 10..20, 60_000), [] as [u64; 0], "what nobody used stayed");
}

#[test]
fn many_threads_put_and_get_at_once() {
    let folder = Folder::new();
    let cache = folder.cache(16);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..15 {
                    let first = round * 100 + thread * 20;
                    put(cache, first..first + 20, 8000);
                    found(cache, first.saturating_sub(500)..first, 8000);
                }
            });
        }
    });
    assert!(folder.bytes() <= 16 * MB);
    assert_eq!(found(&cache, 1400..1480, 8000).len(), 80);
}

#[test]
fn a_folder_that_cannot_be_made_costs_only_the_cache() {
    let folder = Folder::new();
    fs::write(folder.dir.path().join("code"), b"a file").unwrap();
    let cache = folder.cache(16);
    put(&cache, 0..3, 20);
    assert_eq!(found(&cache, 0..3, 20), [] as [u64; 0]);
}

#[test]
fn it_shows_no_key() {
    let folder = Folder::new();
    let shown = format!("{:?}", folder.cache(16));
    assert!(shown.starts_with("CodeCache { dir: ") && !shown.contains("key"), "{shown}");
}
