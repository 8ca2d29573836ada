//! The store as its callers see it. Owners other than the caller need another user, and are tested with the binary.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringfence-store-{}-{name}", std::process::id()))
}

#[test]
fn a_store_is_private_and_keeps_its_ownership() {
    let path = folder("private");
    assert!(Store::open(&path).unwrap().is_none());
    drop(Store::create(&path, Ownership::Single).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        Store::open(&path).unwrap().unwrap().ownership(),
        Ownership::Single
    );
    assert_eq!(
        Store::create(&path, Ownership::Shifted { base: 7 })
            .unwrap_err()
            .to_string(),
        format!(
            "store {}: its files are all the caller's, this run needs them shifted by 7; set RINGFENCE_STORE to another folder",
            path.display()
        )
    );
    std::fs::remove_dir_all(path).unwrap();
}

/// An ordinary user's first run may need a writable layer before it needs an image, and two first runs may meet.
#[test]
fn what_runs_make_beside_the_images_does_not_keep_a_store_from_being_made() {
    let path = folder("beside");
    for name in ["scratch", ".ringfence-probe-1", "staging"] {
        std::fs::create_dir_all(path.join(name)).unwrap();
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        Store::create(&path, Ownership::Single).unwrap().ownership(),
        Ownership::Single
    );
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_folder_that_is_no_store_is_left_alone() {
    let path = folder("foreign");
    std::fs::create_dir_all(path.join("mine")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        Store::create(&path, Ownership::Single).unwrap_err().to_string(),
        format!(
            "store {}: it is not a store and not empty (it holds `mine`)",
            path.display()
        )
    );
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        Store::create(&path, Ownership::Single).unwrap_err().to_string(),
        format!(
            "store {0}: others may write it (mode 777); run `chmod 700 {0}`",
            path.display()
        )
    );
    let link = folder("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(
        Store::create(&link, Ownership::Single).unwrap_err().to_string(),
        format!(
            "store {}: it is not a folder, or a symbolic link to one; name the folder itself",
            link.display()
        )
    );
    std::fs::remove_file(link).unwrap();
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_newer_store_is_refused() {
    let path = folder("newer");
    drop(Store::create(&path, Ownership::Single).unwrap());
    std::fs::write(path.join(HEADER), r#"{"version": 2, "new": true}"#).unwrap();
    assert_eq!(
        Store::open(&path).unwrap_err().to_string(),
        format!(
            "store {}: it has version 2 of the layout, this program knows version 1",
            path.display()
        )
    );
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn what_a_dead_process_left_in_staging_is_cleaned() {
    let path = folder("staging");
    let store = Store::create(&path, Ownership::Single).unwrap();
    std::fs::create_dir_all(path.join("staging/dead/fs/a")).unwrap();
    let alive = store.stage().unwrap();
    store.clean_staging().unwrap();
    let left: Vec<_> = std::fs::read_dir(path.join("staging"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 1);
    drop(alive);
    assert_eq!(std::fs::read_dir(path.join("staging")).unwrap().count(), 0);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn one_holder_of_a_lock_keeps_others_out() {
    let path = folder("locks");
    let store = Store::create(&path, Ownership::Single).unwrap();
    let (one, two) = (store.locks().unwrap(), store.locks().unwrap());
    one.alone("x").unwrap();
    assert!(!two.try_alone("x").unwrap());
    assert!(two.try_alone("y").unwrap());
    one.free("x").unwrap();
    assert!(two.try_alone("x").unwrap());
    drop(two);
    one.shared("x").unwrap();
    let three = store.locks().unwrap();
    three.shared("x").unwrap();
    assert!(!store.locks().unwrap().try_alone("x").unwrap());
    std::fs::remove_dir_all(path).unwrap();
}
