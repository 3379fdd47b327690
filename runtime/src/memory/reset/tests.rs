//! A private mapping of zeros and of a file, as a slot is.

use super::*;
use crate::memory::Memories;
use orama_test_support::left_out;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Pages of the mapping: four of zeros, eight of the image, and zeros again.
const PAGES: usize = 1024;
const IMAGE: Range<usize> = 4..12;

/// Each page of the image is full of its number.
fn file() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for page in IMAGE {
        file.write_all(&vec![page as u8; page_bytes()]).unwrap();
    }
    file
}

struct Mapping(*mut [u8]);

impl Mapping {
    fn new() -> Self {
        let file = file();
        let (private, read_write) = (libc::MAP_PRIVATE, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: fresh mappings, the second of which replaces a part of the first.
        unsafe {
            let anonymous = private | libc::MAP_ANONYMOUS;
            let all = libc::mmap(std::ptr::null_mut(), PAGES * page_bytes(), read_write, anonymous, -1, 0);
            assert_ne!(all, libc::MAP_FAILED);
            let at = all.cast::<u8>().add(IMAGE.start * page_bytes());
            let bytes = IMAGE.len() * page_bytes();
            let image =
                libc::mmap(at.cast(), bytes, read_write, private | libc::MAP_FIXED, file.as_raw_fd(), 0);
            assert_eq!(image, at.cast());
            Self(std::ptr::slice_from_raw_parts_mut(all.cast(), PAGES * page_bytes()))
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping lives as long as this value, and nothing else uses it.
        unsafe { &mut *self.0 }
    }

    fn write(&mut self, page: usize) {
        let at = page * page_bytes();
        self.bytes()[at..at + 100].fill(0xEE);
    }

    /// Pages of the process that only it has.
    fn resident(&self) -> usize {
        self.sum_of("Anonymous:")
    }

    /// Pages that the kernel counts under this name.
    fn sum_of(&self, name: &str) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let range = self.0.cast::<u8>().addr()..self.0.cast::<u8>().addr() + PAGES * page_bytes();
        let (mut inside, mut bytes) = (false, 0);
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(first), second) = (words.next(), words.next()) else { continue };
            if let Some((begin, _)) = first.split_once('-') {
                inside = usize::from_str_radix(begin, 16).is_ok_and(|begin| range.contains(&begin));
            } else if inside && first == name {
                bytes += second.unwrap().parse::<usize>().unwrap() << 10;
            }
        }
        bytes / page_bytes()
    }

    /// Writes pages until the kernel has swapped most of them out. Returns whether it has.
    fn swap_out(&mut self) -> bool {
        let written = PAGES / 8;
        (0..100).any(|_| {
            (0..written).for_each(|page| self.write(page));
            // SAFETY: the range is the mapping.
            let advised = unsafe { libc::madvise(self.0.cast(), PAGES * page_bytes(), libc::MADV_PAGEOUT) };
            assert_eq!(advised, 0);
            self.sum_of("Swap:") > written / 2
        })
    }

    fn reset(&mut self, image: &MemoryImage) {
        // SAFETY: the mapping is private, and nothing else uses it.
        unsafe { reset(self.0, image) }.unwrap();
    }

    fn assert_is_clean(&mut self, after: &str) {
        for page in 0..PAGES {
            let expected = if IMAGE.contains(&page) { page as u8 } else { 0 };
            let bytes = &self.bytes()[page * page_bytes()..(page + 1) * page_bytes()];
            assert!(bytes.iter().all(|byte| *byte == expected), "page {page} after {after}");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made in `new`.
        unsafe { libc::munmap(self.0.cast(), PAGES * page_bytes()) };
    }
}

fn image() -> MemoryImage {
    let bytes = |pages: usize| (pages * page_bytes()) as u64;
    let file = file();
    MemoryImage::of_file(&Memories::reserve(1).unwrap(), bytes(IMAGE.start)..bytes(IMAGE.end), file, 0)
        .unwrap()
}

#[test]
fn each_written_page_shows_its_image_again() {
    let (mut mapping, image) = (Mapping::new(), image());
    let cases: [(&str, Vec<usize>); 6] = [
        ("nothing was written", vec![]),
        ("zeros", vec![0, 3, 12, 1023]),
        ("the image", vec![4, 7, 11]),
        ("more regions than a scan reports", (0..PAGES).step_by(2).collect()),
        ("more pages than are reset one by one", (0..PAGES).collect()),
        ("both", (0..8).collect()),
    ];
    for (what, pages) in cases {
        for page in pages {
            mapping.write(page);
        }
        let written = mapping.resident();
        mapping.reset(&image);
        assert!(mapping.resident() <= written, "pages were touched that were not written after {what}");
        mapping.assert_is_clean(what);
    }
}

/// A swap file, for as long as the value lives. `None` where the test may not make one.
struct Swap(tempfile::NamedTempFile);

impl Swap {
    fn new() -> Option<Self> {
        const BYTES: usize = 16 << 20;
        let mut file = tempfile::NamedTempFile::new().ok()?;
        // A swap file has no holes.
        file.write_all(&vec![0; BYTES]).ok()?;
        let made = ["mkswap", "swapon"].iter().all(|tool| run(tool, file.path()));
        let swap = made.then_some(Self(file))?;
        // A control group may have no swap.
        Mapping::new().swap_out().then_some(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        run("swapoff", self.0.path());
    }
}

fn run(tool: &str, file: &Path) -> bool {
    let ran = Command::new(tool).arg(file).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

#[test]
fn a_page_that_is_swapped_out_is_reset() {
    let Some(swap) = Swap::new() else {
        left_out::say("root, mkswap, swapon, and a kernel that swaps");
        return;
    };
    let (mut mapping, image) = (Mapping::new(), image());
    assert!(mapping.swap_out(), "the kernel keeps the pages");
    mapping.reset(&image);
    mapping.assert_is_clean("pages were swapped out");
    drop(swap);
}
