use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use super::*;
use crate::filter::generation::Digest256;

fn key(component: u8) -> Key {
    Key { component: Digest256([component; 32]), engine: Digest256([9; 32]) }
}

struct Bed {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&StateDir::new(Some(folder.path().to_owned()))).unwrap();
        Self { folder, cache }
    }

    fn limited(limit_bytes: u64) -> Self {
        let bed = Self::new();
        Self { cache: Cache { limit_bytes, ..bed.cache }, folder: bed.folder }
    }

    fn put(&self, component: u8, code: &[u8]) {
        let draft = self.cache.draft().unwrap();
        (&draft.file).write_all(&MachineCode::encode(&key(component), code)).unwrap();
        draft.check(&key(component)).unwrap();
        draft.keep(&file_name(&key(component))).unwrap();
    }

    fn path(&self, component: u8) -> PathBuf {
        self.folder.path().join("compiled").join(file_name(&key(component)))
    }

    /// So long ago was it asked for.
    fn age(&self, component: u8, ago: Duration) {
        fs::File::open(self.path(component)).unwrap().set_modified(SystemTime::now() - ago).unwrap();
    }

    fn has(&self, component: u8) -> bool {
        self.cache.get(&key(component)).is_some()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path().join("compiled")).unwrap().count()
    }
}

#[test]
fn what_is_kept_is_found_by_its_key_alone() {
    let bed = Bed::new();
    bed.put(1, b"machine code");
    assert!(bed.has(1));
    assert!(!bed.has(2));
    let other_engine = Key { engine: Digest256([8; 32]), ..key(1) };
    assert!(bed.cache.get(&other_engine).is_none());
    // A file under another's name is not believed.
    fs::rename(bed.path(1), bed.path(2)).unwrap();
    assert!(!bed.has(2) && !bed.path(2).exists());
}

#[test]
fn any_bit_that_is_wrong_is_found_and_the_file_removed() {
    let bed = Bed::new();
    bed.put(1, &[7; 40]);
    let whole = fs::read(bed.path(1)).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut wrong = whole.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        fs::write(bed.path(1), wrong).unwrap();
        assert!(!bed.has(1), "bit {bit}");
        assert!(!bed.path(1).exists(), "bit {bit}");
    }
    fs::write(bed.path(1), whole).unwrap();
    assert!(bed.has(1));
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_refused() {
    let bed = Bed::new();
    bed.put(1, &[7; 40]);
    let whole = fs::read(bed.path(1)).unwrap();
    for length in 0..whole.len() {
        fs::write(bed.path(1), &whole[..length]).unwrap();
        assert!(!bed.has(1), "{length}");
    }
    fs::write(bed.path(1), [&whole[..], &[7]].concat()).unwrap();
    assert!(!bed.has(1));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let bed = Bed::new();
    fs::create_dir(bed.path(1)).unwrap();
    assert!(!bed.has(1));
    rustix::fs::mkfifoat(rustix::fs::CWD, bed.path(2), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(!bed.has(2));
    bed.cache.tidy(&HashSet::new());
}

#[test]
fn a_draft_that_is_not_kept_leaves_nothing() {
    let bed = Bed::new();
    let draft = bed.cache.draft().unwrap();
    assert_eq!(bed.files(), 1);
    drop(draft);
    assert_eq!(bed.files(), 0);
}

#[test]
fn drafts_of_killed_gateways_go_and_those_that_are_being_written_stay() {
    let bed = Bed::new();
    let written = bed.cache.draft().unwrap();
    fs::write(bed.folder.path().join("compiled/0123.draft"), "half").unwrap();
    fs::write(bed.folder.path().join("compiled/note.txt"), "not of the gateway").unwrap();
    let other = Cache::open(&StateDir::new(Some(bed.folder.path().to_owned()))).unwrap();
    assert_eq!(bed.files(), 2);
    (&written.file).write_all(&MachineCode::encode(&key(1), b"code")).unwrap();
    written.keep(&file_name(&key(1))).unwrap();
    assert!(other.get(&key(1)).is_some());
}

#[test]
fn beyond_the_limit_those_go_that_were_not_asked_for_the_longest() {
    // Each entry is 1116 bytes.
    let bed = Bed::limited(3500);
    for component in 1..=4 {
        bed.put(component, &[0; 1000]);
        bed.age(component, Duration::from_secs(100 - u64::from(component)));
    }
    // Asking for it makes it young.
    assert!(bed.has(1));
    bed.cache.tidy(&HashSet::new());
    assert_eq!([1, 2, 3, 4].map(|component| bed.path(component).exists()), [true, false, true, true]);
}

#[test]
fn what_is_in_use_stays_whatever_the_limit() {
    let bed = Bed::limited(0);
    for component in 1..=3 {
        bed.put(component, &[0; 1000]);
    }
    bed.cache.tidy(&[1, 3].map(|component| file_name(&key(component))).into());
    assert_eq!([1, 2, 3].map(|component| bed.path(component).exists()), [true, false, true]);
}

#[test]
fn two_gateways_may_write_the_same_entry() {
    let bed = Bed::new();
    let other = Cache::open(&StateDir::new(Some(bed.folder.path().to_owned()))).unwrap();
    std::thread::scope(|scope| {
        for cache in [&bed.cache, &other] {
            scope.spawn(move || {
                for round in 0..200_u32 {
                    let draft = cache.draft().unwrap();
                    let component = (round % 3) as u8;
                    (&draft.file).write_all(&MachineCode::encode(&key(component), &[component; 5000])).unwrap();
                    draft.keep(&file_name(&key(component))).unwrap();
                    cache.tidy(&HashSet::new());
                    assert!(cache.get(&key(component)).is_some());
                }
            });
        }
    });
    assert_eq!(bed.files(), 3);
}

#[test]
fn what_a_script_was_made_to_is_found_by_script_and_compiler() {
    let bed = Bed::new();
    let (script, compiler, other) = (Digest256([1; 32]), Digest256([2; 32]), Digest256([3; 32]));
    let put = |component: &[u8]| {
        let draft = bed.cache.draft().unwrap();
        draft.keep_made(&ScriptKey { script, compiler }, component.to_vec()).unwrap()
    };
    let made = |compiler: Option<&Digest256>| bed.cache.made(&script, compiler).map(|made| made.component);
    assert_eq!(made(None), None);
    let entry = put(b"a component").entry;
    assert_eq!(made(Some(&compiler)).as_deref(), Some(&b"a component"[..]));
    assert_eq!(made(Some(&other)), None);
    // Without a compiler, that of any.
    assert_eq!(made(None).as_deref(), Some(&b"a component"[..]));
    assert!(bed.cache.made(&other, None).is_none());
    // It is never taken for machine code, whatever its name.
    let folder = bed.folder.path().join("compiled");
    fs::copy(folder.join(&entry), bed.path(1)).unwrap();
    assert!(!bed.has(1));
    // What is damaged is removed.
    for at in [0, 50, 84, 100, 120] {
        put(b"a component");
        let mut bytes = fs::read(folder.join(&entry)).unwrap();
        bytes[at] ^= 1;
        fs::write(folder.join(&entry), bytes).unwrap();
        assert_eq!((made(Some(&compiler)), bed.files()), (None, 0), "{at}");
    }
}
