//! The key file: private, whole from its first moment, and one for all who start at once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use skyflight_proto::{ClusterKeys, KeyError, KeyStep};

const FOLDER: &str = "SKYFLIGHT_TEST_KEY_FOLDER";
const ANSWER: &str = "keys are ";

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_missing_file_is_made_and_then_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.key");
    assert!(matches!(ClusterKeys::load(&path), Err(KeyError::Io { action: "read", .. })));
    let made = ClusterKeys::create_if_missing(&path).unwrap();
    assert_eq!(names(folder.path()), ["cluster.key"], "nothing else is left");
    assert_eq!(fs::read_to_string(&path).unwrap(), made.to_text());
    for again in [ClusterKeys::create_if_missing(&path).unwrap(), ClusterKeys::load(&path).unwrap()] {
        assert_eq!(again.to_text(), made.to_text());
    }
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.key");
    ClusterKeys::create_if_missing(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_broken_file_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.key");
    fs::write(&path, "not a key\n").unwrap();
    let message = ClusterKeys::create_if_missing(&path).unwrap_err().to_string();
    assert!(
        message.ends_with("cluster.key: line 1 of the cluster key is wrong: it is not of the form id:secret"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a key\n");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/cluster.key");
    let message = ClusterKeys::create_if_missing(&path).unwrap_err().to_string();
    assert!(message.starts_with("cannot make the cluster key file "), "{message}");
    assert!(message.contains("absent/cluster.key: "), "{message}");
}

#[test]
fn threads_that_start_at_once_agree() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        let start = Barrier::new(8);
        let texts: Vec<String> = std::thread::scope(|scope| {
            let run = || {
                start.wait();
                ClusterKeys::create_if_missing(&path).unwrap().to_text()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| *text == texts[0]));
        assert_eq!(names(folder.path()), ["cluster.key"]);
    }
}

#[test]
fn processes_that_start_at_once_agree() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let children: Vec<_> = (0..6)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "key_file::one_of_many_processes", "--nocapture"])
                    .env(FOLDER, folder.path())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        fs::write(folder.path().join("go"), "").unwrap();
        let texts: Vec<String> = children
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                let output = String::from_utf8(output.stdout).unwrap();
                let (_, text) = output.split_once(ANSWER).unwrap_or_else(|| panic!("{output}"));
                text.lines().next().unwrap().to_owned()
            })
            .collect();
        let kept = ClusterKeys::load(&folder.path().join("cluster.key")).unwrap();
        for text in texts {
            assert_eq!(text, kept.to_text().trim());
        }
    }
}

/// Not a test by itself: the body of the processes of the test above.
#[test]
#[allow(clippy::disallowed_methods, reason = "how a test speaks to its child")]
fn one_of_many_processes() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    for _ in 0..10_000 {
        if folder.join("go").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let keys = ClusterKeys::create_if_missing(&folder.join("cluster.key")).unwrap();
    println!("{ANSWER}{}", keys.to_text());
}

/// Each key is signed with for `AGE`, and believed for `KEEP` after that.
#[test]
fn keys_change_with_time_and_what_they_signed_ends_with_them() {
    const AGE: Duration = Duration::from_secs(100);
    const KEEP: Duration = Duration::from_secs(40);
    let rotated = |keys: &ClusterKeys, now: u64| keys.rotated(now, AGE, KEEP);
    let of_old = ClusterKeys::parse(&format!("old:{}\n", "ab".repeat(32))).unwrap();
    // A key of unknown age gives way at once, and verifies for its time.
    let first = rotated(&of_old, 1_000).unwrap();
    assert_eq!((first.ids().len(), first.ids()[1].as_str()), (2, "old"));
    assert!(first.ids()[0].starts_with("1000-"));
    assert!(rotated(&first, 1_039).is_none());
    let alone = rotated(&first, 1_040).unwrap();
    assert_eq!(alone.ids(), first.ids()[..1]);
    assert!(rotated(&alone, 1_099).is_none());
    let second = rotated(&alone, 1_100).unwrap();
    assert_eq!(second.ids()[1], alone.ids()[0]);
    // A key that was added by hand waits where it is.
    let added = second.stepped(KeyStep::Add);
    let later = rotated(&added, 1_140).unwrap();
    assert_eq!(later.ids(), [second.ids()[0].clone(), added.ids()[2].clone()]);
    // Long asleep: one new key, and nothing that could still be out is refused.
    let awake = rotated(&second, 1_250).unwrap();
    assert_eq!(awake.ids()[1..], second.ids()[..1]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.key");
    let keys = ClusterKeys::create_if_missing(&path).unwrap();
    let made: u64 = keys.ids()[0].split('-').next().unwrap().parse().unwrap();
    assert!(!ClusterKeys::rotate_file(&path, made + 99, AGE, KEEP).unwrap());
    assert!(ClusterKeys::rotate_file(&path, made + 100, AGE, KEEP).unwrap());
    let before = keys.ids();
    assert!(keys.reload(&path).unwrap());
    assert_eq!(keys.ids()[1..], before[..]);
}
