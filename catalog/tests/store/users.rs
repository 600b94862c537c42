//! Who may log in.

use skyflight_catalog::{CatalogError, CatalogStore, PasswordHash, SqliteStore};

use crate::fixtures::OnDisk;

fn hash(text: &str) -> PasswordHash {
    PasswordHash(text.to_owned())
}

#[tokio::test]
async fn a_user_is_added_found_in_any_case_changed_and_removed() {
    let store = SqliteStore::in_memory().await.unwrap();
    assert_eq!(store.users().await.unwrap(), []);
    store.add_user("Ada", &hash("1")).await.unwrap();
    store.add_user("vera", &hash("2")).await.unwrap();
    let ada = store.user("aDA").await.unwrap().unwrap();
    assert_eq!((ada.name.as_str(), &ada.password), ("Ada", &hash("1")));
    assert!(ada.created_unix_ms > 0 && ada.password_unix_ms == ada.created_unix_ms);
    assert_eq!(store.user("grace").await.unwrap(), None);
    let names: Vec<String> = store.users().await.unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["Ada", "vera"]);

    // Two changes within a millisecond are two: tokens of the first must not pass for the second's.
    store.set_password("ADA", &hash("3")).await.unwrap();
    let second = store.user("ada").await.unwrap().unwrap();
    store.set_password("ada", &hash("4")).await.unwrap();
    let third = store.user("ada").await.unwrap().unwrap();
    assert_eq!(third.password, hash("4"));
    assert!(ada.password_unix_ms < second.password_unix_ms && second.password_unix_ms < third.password_unix_ms);
    assert_eq!(third.created_unix_ms, ada.created_unix_ms);

    store.remove_user("ada").await.unwrap();
    assert_eq!(store.user("Ada").await.unwrap(), None);
    assert_eq!(store.users().await.unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_names_are_refused_and_near_ones_suggested() {
    let store = SqliteStore::in_memory().await.unwrap();
    store.add_user("Ada", &hash("1")).await.unwrap();
    let refused = store.add_user("ADA", &hash("2")).await.unwrap_err();
    assert!(matches!(refused, CatalogError::AlreadyExists { what: "user", name } if name == "Ada"));
    assert!(matches!(store.add_user("a b", &hash("1")).await.unwrap_err(), CatalogError::Invalid(_)));
    for refused in
        [store.set_password("adda", &hash("2")).await.unwrap_err(), store.remove_user("adda").await.unwrap_err()]
    {
        assert!(refused.to_string().contains("did you mean \"Ada\""), "{refused}");
    }
    assert_eq!(store.user("ada").await.unwrap().unwrap().password, hash("1"));
}

#[tokio::test]
async fn users_outlive_the_process() {
    let disk = OnDisk::new();
    disk.open().await.add_user("ada", &hash("1")).await.unwrap();
    assert_eq!(disk.open().await.user("ada").await.unwrap().unwrap().password, hash("1"));
}
