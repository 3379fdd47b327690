//! Slots that instances take and give back.

use super::*;

fn image(memories: &Arc<Memories>, start: u64, bytes: &[u8]) -> Arc<MemoryImage> {
    Arc::new(MemoryImage::of_bytes(memories, &ImageBytes { start, bytes: bytes.to_vec() }))
}

/// A memory of one page of WebAssembly, as wasmtime creates it.
fn create(memories: &Arc<Memories>, image: &Arc<MemoryImage>) -> Option<Box<dyn LinearMemory>> {
    memories.take(image)?.offer(image);
    let ty = MemoryType::new(1, None);
    Some(memories.new_memory(ty, PAGE, None, Some(RESERVATION_BYTES as usize), GUARD_BYTES as usize).unwrap())
}

const PAGE: usize = 64 << 10;

fn bytes(memory: &mut dyn LinearMemory) -> &mut [u8] {
    // SAFETY: these bytes are accessible, and the test has the memory.
    unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
}

#[test]
fn an_image_is_shown_to_each_instance_and_the_same_slot_serves_the_next_one() {
    let memories = Memories::reserve(4).unwrap();
    for (start, text) in [(0, &b""[..]), (100, &b"hello"[..]), (8190, &b"across pages"[..])] {
        let image = image(&memories, start, text);
        let mut address = None;
        for _ in 0..3 {
            let mut memory = create(&memories, &image).unwrap();
            assert_eq!(*address.get_or_insert(memory.as_ptr()), memory.as_ptr(), "another slot was taken");
            let start = start as usize;
            assert_eq!(bytes(&mut *memory)[start..start + text.len()], *text);
            assert_eq!(bytes(&mut *memory).iter().filter(|byte| **byte != 0).count(), text.len());
            memory.grow_to(2 * PAGE).unwrap();
            assert!(bytes(&mut *memory)[PAGE..].iter().all(|byte| *byte == 0));
            bytes(&mut *memory).fill(0xEE);
            assert_eq!(memories.in_use(), 1);
        }
        assert_eq!(memories.in_use(), 0);
    }
}

#[test]
fn a_slot_serves_other_images_in_turn() {
    let memories = Memories::reserve(1).unwrap();
    let images = [image(&memories, 0, b"first"), image(&memories, 4096, b"second"), image(&memories, 0, b"")];
    for _ in 0..3 {
        for (image, (at, text)) in images.iter().zip([(0, &b"first"[..]), (4096, b"second"), (0, b"")]) {
            let mut memory = create(&memories, image).unwrap();
            assert_eq!(bytes(&mut *memory)[at..at + text.len()], *text);
            assert_eq!(bytes(&mut *memory).iter().filter(|byte| **byte != 0).count(), text.len());
            bytes(&mut *memory).fill(0xEE);
        }
    }
}

#[test]
fn a_full_engine_gives_no_slot_until_one_is_given_back() {
    let memories = Memories::reserve(2).unwrap();
    let image = image(&memories, 0, b"x");
    let (first, second) = (create(&memories, &image).unwrap(), memories.take(&image).unwrap());
    assert!(memories.take(&image).is_none());
    assert_eq!(memories.in_use(), 2);
    drop(second);
    drop(memories.take(&image).unwrap());
    // Another thread's slot serves as well.
    std::thread::scope(|scope| scope.spawn(|| drop(memories.take(&image).unwrap())).join().unwrap());
    drop(first);
    assert_eq!(memories.in_use(), 0);
}

#[test]
fn the_file_of_an_image_that_is_gone_is_no_longer_mapped() {
    let memories = Memories::reserve(1).unwrap();
    let gone = image(&memories, 0, &[7; 5000]);
    let address = create(&memories, &gone).unwrap().as_ptr().addr();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-"))).unwrap();
        line.contains("memfd")
    };
    assert!(mapped());
    drop(gone);
    assert!(!mapped());
    let mut memory = create(&memories, &image(&memories, 0, b"")).unwrap();
    assert!(bytes(&mut *memory).iter().all(|byte| *byte == 0));
}

#[test]
fn a_process_without_files_in_memory_has_images_all_the_same() {
    let memories = Memories::reserve(1).unwrap();
    let image = Arc::new(MemoryImage::in_this_process(&memories, 4096..8192, vec![7; 4096]));
    for _ in 0..2 {
        let mut memory = create(&memories, &image).unwrap();
        assert_eq!(bytes(&mut *memory)[4096..8192], [7; 4096]);
        assert_eq!(bytes(&mut *memory).iter().filter(|byte| **byte != 0).count(), 4096);
        bytes(&mut *memory).fill(0xEE);
    }
}

#[test]
fn an_image_that_cannot_be_one_is_refused() {
    let memories = Memories::reserve(1).unwrap();
    let file = || std::fs::File::open("/proc/self/exe").unwrap();
    for (range, offset) in [(0..5, 0), (0..4096, 7), (0..2 * RESERVATION_BYTES, 0)] {
        assert!(MemoryImage::of_file(&memories, range, file(), offset).is_err());
    }
    // Larger than the memory that shows it.
    let image = image(&memories, PAGE as u64, b"x");
    memories.take(&image).unwrap().offer(&image);
    assert!(memories.new_memory(MemoryType::new(1, None), PAGE, None, None, 0).is_err());
    assert_eq!(memories.in_use(), 0, "the slot is lost");
}
