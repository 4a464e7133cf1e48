#![allow(clippy::unwrap_used)]

use super::*;
use magpie_proto::sasl::Hash;

fn accounts() -> Accounts {
    Accounts::new(&Store::memory(), ScramPolicy { hashes: vec![(Hash::Sha1, 4096), (Hash::Sha256, 4096)] })
}

fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn keys(password: &str) -> Credentials {
    derive(password, &ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] }).unwrap()
}

fn opens(credentials: &Credentials, password: &str) -> bool {
    credentials.keys.iter().all(|keys| keys.check_password(password))
}

#[test]
fn owners_of_a_host_share_a_prefix_that_no_other_host_has() {
    assert_eq!(owner(&jid("juliet@example.org")), "example.org/juliet");
    assert!(!owner(&jid("juliet@example.org.uk")).starts_with(&host_prefix("example.org")));
}

#[tokio::test]
async fn a_new_account_has_keys_for_each_hash_of_the_policy_and_only_its_password_opens_it() {
    let accounts = accounts();
    let juliet = jid("juliet@example.org");
    assert!(accounts.find(&juliet).await.unwrap().is_none());
    accounts.create(&juliet, "O Romeo").await.unwrap();
    let credentials = accounts.find(&juliet).await.unwrap().unwrap();
    assert_eq!(credentials.keys.iter().map(|keys| keys.hash).collect::<Vec<_>>(), [Hash::Sha1, Hash::Sha256]);
    assert!(opens(&credentials, "O Romeo"));
    assert!(!opens(&credentials, "o romeo"));
}

#[tokio::test]
async fn two_accounts_with_one_password_have_different_salts() {
    let accounts = accounts();
    accounts.create(&jid("a@example.org"), "same").await.unwrap();
    accounts.create(&jid("b@example.org"), "same").await.unwrap();
    let a = accounts.find(&jid("a@example.org")).await.unwrap().unwrap();
    let b = accounts.find(&jid("b@example.org")).await.unwrap().unwrap();
    assert_ne!(a.keys[0].salt, b.keys[0].salt);
    assert_ne!(a.keys[0].salt, a.keys[1].salt);
}

#[tokio::test]
async fn an_account_is_not_made_twice_and_keeps_its_first_password() {
    let accounts = accounts();
    let juliet = jid("juliet@example.org");
    accounts.create(&juliet, "first").await.unwrap();
    assert_eq!(accounts.create(&juliet, "second").await, Err(AccountError::Exists));
    assert!(opens(&accounts.find(&juliet).await.unwrap().unwrap(), "first"));
}

#[tokio::test]
async fn of_two_who_make_the_same_account_at_once_one_succeeds() {
    let accounts = accounts();
    let juliet = jid("juliet@example.org");
    let (first, second) = tokio::join!(accounts.create(&juliet, "first"), accounts.create(&juliet, "second"));
    let (winner, loser) = if first.is_ok() { ("first", second) } else { ("second", first) };
    assert_eq!(loser, Err(AccountError::Exists));
    assert!(opens(&accounts.find(&juliet).await.unwrap().unwrap(), winner));
}

#[tokio::test]
async fn passwords_that_cannot_be_one_and_domains_are_refused() {
    let accounts = accounts();
    let empty = accounts.create(&jid("juliet@example.org"), "").await;
    assert_eq!(empty, Err(AccountError::Password(PasswordError::Empty)));
    assert!(!accounts.exists(&jid("juliet@example.org")).await.unwrap());
    assert_eq!(accounts.create(&jid("example.org"), "secret").await, Err(AccountError::NoLocalpart));
    assert_eq!(accounts.count("example.org").await, Ok(0));
}

#[tokio::test]
async fn another_password_replaces_the_first() {
    let accounts = accounts();
    let juliet = jid("juliet@example.org");
    assert_eq!(accounts.set_password(&juliet, "x").await, Err(AccountError::NotFound));
    accounts.create(&juliet, "first").await.unwrap();
    accounts.set_policy(ScramPolicy { hashes: vec![(Hash::Sha512, 4096)] });
    accounts.set_password(&juliet, "second").await.unwrap();
    let credentials = accounts.find(&juliet).await.unwrap().unwrap();
    assert_eq!(credentials.keys[0].hash, Hash::Sha512);
    assert!(opens(&credentials, "second"));
}

#[tokio::test]
async fn removing_erases_what_any_module_kept_and_nothing_of_others() {
    let store = Store::memory();
    let accounts = Accounts::new(&store, ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] });
    let (juliet, julia) = (jid("juliet@example.org"), jid("juliet2@example.org"));
    let roster = store.map::<String>("roster");
    let mut batch = Batch::new();
    for account in [&juliet, &julia] {
        accounts.create(account, "secret").await.unwrap();
        roster.put(&mut batch, &owner(account), "romeo@example.net", &"Romeo".to_owned());
    }
    store.commit(batch).await.unwrap();
    accounts.remove(&juliet).await.unwrap();
    assert!(!accounts.exists(&juliet).await.unwrap());
    assert_eq!(roster.list(&owner(&juliet)).await.unwrap(), []);
    assert_eq!(roster.list(&owner(&julia)).await.unwrap().len(), 1);
    assert_eq!(accounts.remove(&juliet).await, Err(AccountError::NotFound));
    assert_eq!(accounts.count("example.org").await, Ok(1));
}

#[tokio::test]
async fn accounts_are_listed_by_pages_of_their_own_host() {
    let accounts = accounts();
    let many = ["c@a.example", "a@a.example", "b@a.example", "a@b.example"];
    accounts.create_many(many.iter().map(|text| (jid(text), keys("x"))).collect()).await.unwrap();
    let first = accounts.list("a.example", None, 2).await.unwrap();
    assert_eq!(first, [jid("a@a.example"), jid("b@a.example")]);
    let rest = accounts.list("a.example", Some("b"), 2).await.unwrap();
    assert_eq!(rest, [jid("c@a.example")]);
    assert_eq!(accounts.count("a.example").await, Ok(3));
}

#[tokio::test]
async fn many_are_made_at_once_and_existing_ones_stay() {
    let accounts = accounts();
    accounts.create(&jid("b@example.org"), "old").await.unwrap();
    let batch = vec![
        (jid("a@example.org"), keys("1")),
        (jid("b@example.org"), keys("2")),
        (jid("a@example.org"), keys("3")),
        (jid("example.org"), keys("4")),
    ];
    let written = accounts.create_many(batch).await.unwrap();
    assert_eq!(written, [Written::Created, Written::Exists, Written::Exists, Written::NoLocalpart]);
    assert!(opens(&accounts.find(&jid("a@example.org")).await.unwrap().unwrap(), "1"));
    assert!(opens(&accounts.find(&jid("b@example.org")).await.unwrap().unwrap(), "old"));
}

#[tokio::test]
async fn replacing_many_changes_existing_ones_and_the_last_of_two_rows_stays() {
    let accounts = accounts();
    accounts.create(&jid("b@example.org"), "old").await.unwrap();
    let batch =
        vec![(jid("a@example.org"), keys("1")), (jid("b@example.org"), keys("2")), (jid("a@example.org"), keys("3"))];
    let written = accounts.replace_many(batch).await.unwrap();
    assert_eq!(written, [Written::Created, Written::Replaced, Written::Replaced]);
    assert!(opens(&accounts.find(&jid("a@example.org")).await.unwrap().unwrap(), "3"));
    assert!(opens(&accounts.find(&jid("b@example.org")).await.unwrap().unwrap(), "2"));
}

async fn proof(accounts: &Accounts, account: &BareJid) -> Proof {
    Proof::new(accounts.find(account).await.unwrap().unwrap().keys[0].clone())
}

#[tokio::test]
async fn missing_keys_are_added_to_those_that_are_there_and_not_to_those_of_another_password() {
    let accounts = accounts();
    let romeo = jid("romeo@example.org");
    accounts.create_many(vec![(romeo.clone(), keys("secret"))]).await.unwrap();
    let before = accounts.find(&romeo).await.unwrap().unwrap();
    let old = proof(&accounts, &romeo).await;
    accounts.renew_keys(&romeo, "secret", &old).await.unwrap();
    let after = accounts.find(&romeo).await.unwrap().unwrap();
    assert_eq!(after.keys.iter().map(|keys| keys.hash).collect::<Vec<_>>(), [Hash::Sha1, Hash::Sha256]);
    assert!(after.keys[0] == before.keys[0] && opens(&after, "secret") && old.holds(&after));

    // Somebody changes the password while the keys of the old one are made.
    accounts.replace_many(vec![(romeo.clone(), keys("another"))]).await.unwrap();
    accounts.renew_keys(&romeo, "secret", &old).await.unwrap();
    let kept = accounts.find(&romeo).await.unwrap().unwrap();
    assert!(kept.keys.len() == 1 && opens(&kept, "another") && !old.holds(&kept));
}

#[tokio::test]
async fn what_rests_on_an_earlier_password_is_not_written() {
    let store = Store::memory();
    let accounts = Accounts::new(&store, ScramPolicy::default());
    let romeo = jid("romeo@example.org");
    let tokens = store.map::<Vec<u8>>(TOKENS);
    accounts.create(&romeo, "secret").await.unwrap();
    let old = proof(&accounts, &romeo).await;
    let give = || accounts.change_while(&romeo, &old, |batch| tokens.put(batch, &owner(&romeo), "phone", &vec![1]));
    assert_eq!(give().await, Ok(true));
    assert!(accounts.is_active(&romeo, &old).await.unwrap());
    accounts.set_password(&romeo, "secret").await.unwrap();
    assert_eq!(give().await, Ok(false));
    assert!(tokens.list(&owner(&romeo)).await.unwrap().is_empty());
    assert!(!accounts.is_active(&romeo, &old).await.unwrap());
}

#[tokio::test]
async fn tokens_go_with_the_password_and_stay_while_it_is_the_same() {
    let store = Store::memory();
    let accounts = Accounts::new(&store, ScramPolicy::default());
    let romeo = BareJid::parse("romeo@example.org").unwrap();
    let tokens = store.map::<Vec<u8>>(TOKENS);
    accounts.create(&romeo, "secret").await.unwrap();
    let give = || accounts.change(&romeo, |batch| tokens.put(batch, &owner(&romeo), "phone", &vec![1]));
    let has = async || tokens.get(&owner(&romeo), "phone").await.unwrap().is_some();
    give().await.unwrap();
    accounts.renew_keys(&romeo, "secret", &proof(&accounts, &romeo).await).await.unwrap();
    assert!(has().await);
    accounts.disable(&romeo).await.unwrap();
    accounts.enable(&romeo).await.unwrap();
    assert!(!has().await, "an account that was disabled");
    give().await.unwrap();
    accounts.set_password(&romeo, "another").await.unwrap();
    assert!(!has().await);
    give().await.unwrap();
    let imported = accounts.find(&romeo).await.unwrap().unwrap();
    accounts.replace_many(vec![(romeo.clone(), imported)]).await.unwrap();
    assert!(!has().await);
    give().await.unwrap();
    accounts.remove(&romeo).await.unwrap();
    assert!(!has().await);
}
