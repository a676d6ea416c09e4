use std::{fs::Permissions, io::Write as _, os::unix::fs::PermissionsExt};

use rustix::process::geteuid;

use super::*;

fn error(state: &StateDir) -> String {
    state.private_folder("compiled").err().map(|error| error.to_string()).unwrap_or_default()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_made_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deeper/state");
    let private = StateDir::new(Some(path.clone())).private_folder("compiled").unwrap();
    assert_eq!([mode(&path), mode(&path.join("compiled"))], [0o700, 0o700]);
    let file = private.create("a").unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(private.create("a").is_err());
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::new(Some(folder.path().to_owned()));
    let path = folder.path().join("compiled");
    fs::create_dir(&path).unwrap();
    for wrong in [0o720, 0o702, 0o777, 0o1777] {
        fs::set_permissions(&path, Permissions::from_mode(wrong)).unwrap();
        let error = error(&state);
        assert!(error.contains(&format!("{wrong:04o}")) && error.contains(path.to_str().unwrap()), "{error}");
    }
    for right in [0o755, 0o700] {
        fs::set_permissions(&path, Permissions::from_mode(right)).unwrap();
        assert_eq!(error(&state), "");
    }
}

#[test]
fn a_folder_of_another_user_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compiled");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    let error = error(&StateDir::new(Some(folder.path().to_owned())));
    assert!(error.contains("belongs to the user 12345, but the gateway runs as 0"), "{error}");
}

#[test]
fn what_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::new(Some(folder.path().to_owned()));
    let path = folder.path().join("compiled");
    std::os::unix::fs::symlink("/tmp", &path).unwrap();
    assert!(error(&state).contains("is not a folder"), "{}", error(&state));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(error(&state).contains(path.to_str().unwrap()), "{}", error(&state));
}

#[test]
fn files_stay_in_the_folder_that_was_checked() {
    let folder = tempfile::tempdir().unwrap();
    let private = StateDir::new(Some(folder.path().to_owned())).private_folder("compiled").unwrap();
    private.create("mine").unwrap().write_all(b"mine").unwrap();
    // Somebody who may write to the state directory puts another folder in its place.
    fs::rename(folder.path().join("compiled"), folder.path().join("away")).unwrap();
    fs::create_dir(folder.path().join("compiled")).unwrap();
    fs::write(folder.path().join("compiled/mine"), "theirs").unwrap();
    assert_eq!(io::read_to_string(private.read("mine").unwrap()).unwrap(), "mine");
    private.rename("mine", "other").unwrap();
    assert_eq!(private.names().unwrap(), ["other"]);
    private.remove("other").unwrap();
    private.remove("other").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("away/link")).unwrap();
    assert!(private.read("link").is_err());
}

#[test]
fn a_temporary_one_goes_with_the_process_and_what_was_left_goes_at_the_next_start() {
    let state = StateDir::new(None);
    let path = state.private_folder("compiled").unwrap().path().to_owned();
    let parent = path.parent().unwrap().to_owned();
    assert_eq!(mode(&parent), 0o700);
    assert!(!state.is_kept());
    // What a killed process leaves is there, but not locked.
    let left = parent.with_file_name("wsgate-state-of-a-killed-process");
    // Another test may sweep it away under way.
    let _ = fs::create_dir_all(left.join("compiled"));
    let other = StateDir::new(None);
    other.private_folder("compiled").unwrap();
    assert!(!left.exists() && path.exists());
    state.close();
    assert!(!parent.exists());
    assert!(matches!(state.private_folder("compiled"), Err(StateDirError::Closed)));
}
