#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use magpie_proto::sasl::{Hash, ScramPolicy};
use magpie_store::Store;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use super::socket::{AdminSocket, Client, socket_path};
use super::*;
use crate::accounts::derive;
use crate::config::schema::Table;

fn policy() -> ScramPolicy {
    ScramPolicy { hashes: vec![(Hash::Sha256, 4096)] }
}

fn context() -> Context {
    let config = Config { domains: vec!["example.org".into()], ..Config::default() };
    Context::new(Accounts::new(&Store::memory(), policy()), config)
}

/// A server's sessions that note what they are told.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Sessions for Noted {
    fn on_account_removed(&self, account: &BareJid) {
        self.0.lock().push(format!("removed {account}"));
    }
    fn end_all(self: Arc<Self>, account: BareJid) -> Ending {
        self.0.lock().push(format!("ended all of {account}"));
        Box::pin(std::future::ready(true))
    }
    fn on_account_imported(&self, _: &BareJid) {}
    fn on_account_replaced(&self, account: &BareJid) {
        self.0.lock().push(format!("replaced {account}"));
    }

    fn on_account_disabled(&self, account: &BareJid) {
        self.0.lock().push(format!("disabled {account}"));
    }
    fn on_motd_changed(self: Arc<Self>, host: &str, notice: Option<Notice>) {
        self.0.lock().push(format!("motd of {host}: {}", notice.map_or_else(String::new, |notice| notice.text)));
    }
    fn on_invite_made(&self, invite: &Invite) {
        self.0.lock().push(format!("invite to {}", invite.host));
    }
    fn on_password_changed(&self, account: &BareJid) {
        self.0.lock().push(format!("password {account}"));
    }
    fn on_clients_revoked(&self, account: &BareJid, clients: &[String]) {
        self.0.lock().push(format!("clients {account} {clients:?}"));
    }
    fn count(&self) -> usize {
        3
    }
    fn list(&self, account: Option<&BareJid>) -> Vec<SessionLine> {
        let sessions =
            ["b@example.org/2", "a@example.org/1", "c@example.net/3"].map(|jid| FullJid::parse(jid).unwrap());
        let wanted = sessions.into_iter().filter(|jid| account.is_none_or(|account| jid.to_bare() == *account));
        wanted
            .map(|jid| {
                let is_second = jid.resource() == "2";
                SessionLine { away: is_second, jid, available: true, priority: 0, detached: is_second }
            })
            .collect()
    }
    fn end(&self, jid: &Jid) -> usize {
        self.0.lock().push(format!("ended {jid}"));
        1
    }
    fn announce(&self, host: &str, _: Option<&str>, text: &str) -> usize {
        self.0.lock().push(format!("to {host}: {text}"));
        2
    }
    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        vec![(ListenKind::C2sTls, ([127, 0, 0, 1], 5223).into())]
    }
}

/// A process that reloads with a report and takes one log filter.
struct Fixed;

impl Process for Fixed {
    fn uptime_seconds(&self) -> u64 {
        7
    }
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, OperationError>> + Send + '_>> {
        let report = ReloadReport { reloaded: vec!["limits".into()], ..ReloadReport::default() };
        Box::pin(async { Ok(report) })
    }
    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        if filter == "debug" { Ok(()) } else { Err("unknown level".into()) }
    }
    fn stop_after(&self, _: Duration) {}
}

fn running(noted: &Arc<Noted>) -> Context {
    let context = context();
    Context { sessions: Some(Arc::clone(noted) as Arc<dyn Sessions>), process: Some(Arc::new(Fixed)), ..context }
}

async fn kind(context: &Context, name: &str, arguments: Value) -> ErrorKind {
    run(context, name, arguments).await.unwrap_err().kind
}

#[test]
fn operations_have_names_of_their_own_and_say_what_they_take() {
    for (index, definition) in OPERATIONS.iter().enumerate() {
        assert!(OPERATIONS[..index].iter().all(|other| other.name != definition.name), "{}", definition.name);
        assert!(definition.doc.ends_with('.'), "{}", definition.name);
    }
    let add = OPERATIONS.iter().find(|definition| definition.name == "user_add").unwrap();
    let expected = Table { name: "Arguments", keys: vec![("jid", Kind::Text), ("password", Kind::Text)] };
    assert_eq!((add.arguments)(), Kind::Table(expected));
}

#[tokio::test]
async fn accounts_are_made_listed_and_removed() {
    let context = context();
    let juliet = json!({ "jid": "Juliet@example.org", "password": "x" });
    assert_eq!(run(&context, "user_add", juliet.clone()).await.unwrap(), json!({ "jid": "juliet@example.org" }));
    assert_eq!(kind(&context, "user_add", juliet).await, ErrorKind::Exists);
    let list = run(&context, "user_list", json!({ "host": "example.org" })).await.unwrap();
    assert_eq!(list["accounts"], json!(["juliet@example.org"]));
    assert_eq!(list["next"], Value::Null);
    run(&context, "user_remove", json!({ "jid": "juliet@example.org" })).await.unwrap();
    assert_eq!(kind(&context, "user_remove", json!({ "jid": "juliet@example.org" })).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn pages_follow_each_other_until_there_is_no_next() {
    let context = context();
    for name in ["a", "b", "c"] {
        let account = BareJid::from_parts(Some(name), "example.org").unwrap();
        context.accounts.create(&account, "x").await.unwrap();
    }
    let page = |after: Value| run(&context, "user_list", json!({ "host": "example.org", "after": after, "limit": 2 }));
    let first = page(Value::Null).await.unwrap();
    assert_eq!((&first["accounts"], &first["next"]), (&json!(["a@example.org", "b@example.org"]), &json!("b")));
    let second = page(first["next"].clone()).await.unwrap();
    assert_eq!((&second["accounts"], &second["next"]), (&json!(["c@example.org"]), &Value::Null));
}

#[tokio::test]
async fn wrong_arguments_are_told_apart() {
    let context = context();
    assert_eq!(kind(&context, "user_ad", json!({})).await, ErrorKind::UnknownOperation);
    assert_eq!(kind(&context, "user_add", json!({ "jid": "a@example.org" })).await, ErrorKind::Invalid);
    let unknown = json!({ "jid": "a@example.org", "password": "x", "pasword": "y" });
    assert_eq!(kind(&context, "user_add", unknown).await, ErrorKind::Invalid);
    let resource = json!({ "jid": "a@example.org/r", "password": "x" });
    assert_eq!(kind(&context, "user_add", resource).await, ErrorKind::Invalid);
    let empty = json!({ "jid": "a@example.org", "password": "" });
    assert_eq!(kind(&context, "user_add", empty).await, ErrorKind::Invalid);
    let elsewhere = json!({ "jid": "a@example.net", "password": "x" });
    assert_eq!(kind(&context, "user_add", elsewhere).await, ErrorKind::NotServed);
    assert_eq!(kind(&context, "user_list", json!({ "host": "example.net" })).await, ErrorKind::NotServed);
    let unknown = json!({ "jid": "a@example.org", "password": "x" });
    assert_eq!(kind(&context, "user_passwd", unknown).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn sessions_end_with_their_account_or_password_and_not_when_nothing_changed() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    let arguments = json!({ "jid": "a@example.org", "password": "x" });
    kind(&context, "user_passwd", arguments.clone()).await;
    kind(&context, "user_remove", json!({ "jid": "a@example.org" })).await;
    run(&context, "user_add", arguments.clone()).await.unwrap();
    assert_eq!(*noted.0.lock(), [""; 0]);
    run(&context, "user_passwd", arguments).await.unwrap();
    run(&context, "user_remove", json!({ "jid": "a@example.org" })).await.unwrap();
    assert_eq!(*noted.0.lock(), ["password a@example.org", "removed a@example.org"]);
}

#[tokio::test]
async fn a_disabled_account_is_listed_and_counted_until_it_is_enabled_or_removed() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    for name in ["a", "b"] {
        let arguments = json!({ "jid": format!("{name}@example.org"), "password": "x" });
        run(&context, "user_add", arguments).await.unwrap();
        run(&context, "user_disable", json!({ "jid": format!("{name}@example.org") })).await.unwrap();
    }
    assert_eq!(*noted.0.lock(), ["disabled a@example.org", "disabled b@example.org"]);
    let listed = || run(&context, "user_list", json!({ "host": "example.org", "disabled": true }));
    assert_eq!(listed().await.unwrap()["accounts"], json!(["a@example.org", "b@example.org"]));
    assert_eq!(run(&context, "domain_show", json!({})).await.unwrap()["disabled"], 2);
    run(&context, "user_enable", json!({ "jid": "a@example.org" })).await.unwrap();
    run(&context, "user_remove", json!({ "jid": "b@example.org" })).await.unwrap();
    assert_eq!(listed().await.unwrap()["accounts"], json!([]));
    run(&context, "user_add", json!({ "jid": "b@example.org", "password": "x" })).await.unwrap();
    for jid in ["a@example.org", "b@example.org"] {
        assert_eq!(run(&context, "user_show", json!({ "jid": jid })).await.unwrap()["disabled"], false, "{jid}");
    }
    assert_eq!(kind(&context, "user_disable", json!({ "jid": "c@example.org" })).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn invites_are_made_as_the_configuration_allows_and_listed_and_taken_back() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    let create = |arguments: Value| run(&context, "invite_create", arguments);
    run(&context, "user_add", json!({ "jid": "romeo@example.org", "password": "x" })).await.unwrap();

    let plain = create(json!({ "contacts": ["romeo@example.org"], "uses": 3 })).await.unwrap();
    assert_eq!(plain["uri"], json!(format!("xmpp:example.org?register;preauth={}", plain["token"].as_str().unwrap())));
    assert_eq!((&plain["contacts"], &plain["uses"]), (&json!(["romeo@example.org"]), &json!(3)));
    let named = create(json!({ "username": "Juliet", "inviter": "romeo@example.org" })).await.unwrap();
    assert_eq!((&named["username"], &named["contacts"]), (&json!("juliet"), &json!([])));
    // Users make contacts; accounts only where the configuration says so.
    let contact = create(json!({ "inviter": "romeo@example.org", "as_contact": true })).await.unwrap();
    assert_eq!((&contact["registers"], &contact["contacts"]), (&json!(false), &json!([])));
    assert_eq!(*noted.0.lock(), ["invite to example.org"; 3]);

    for (arguments, kind) in [
        (json!({ "username": "juliet" }), ErrorKind::Exists),
        (json!({ "username": "romeo" }), ErrorKind::Exists),
        (json!({ "username": "a b" }), ErrorKind::Invalid),
        (json!({ "username": "a", "uses": 2 }), ErrorKind::Invalid),
        (json!({ "expires_seconds": 0 }), ErrorKind::Invalid),
        (json!({ "as_contact": true }), ErrorKind::Invalid),
        (json!({ "contacts": ["nobody@example.org"] }), ErrorKind::NotFound),
        (json!({ "contacts": ["romeo@example.net"] }), ErrorKind::NotServed),
        (json!({ "inviter": "nobody@example.org" }), ErrorKind::NotFound),
        (json!({ "host": "example.net" }), ErrorKind::NotServed),
    ] {
        assert_eq!(create(arguments.clone()).await.unwrap_err().kind, kind, "{arguments}");
    }
    let mut config = Config::clone(&context.config());
    config.admins = vec!["boss@example.org".into()];
    context.config.store(Arc::new(config));
    let of_romeo = json!({ "username": "boss", "inviter": "romeo@example.org" });
    assert_eq!(create(of_romeo).await.unwrap_err().kind, ErrorKind::NotAllowed);
    let boss = create(json!({ "username": "boss" })).await.unwrap();
    run(&context, "invite_revoke", json!({ "token": boss["token"] })).await.unwrap();
    let list = || async { run(&context, "invite_list", json!({})).await.unwrap()["invites"].as_array().unwrap().len() };
    assert_eq!(list().await, 3);
    run(&context, "invite_revoke", json!({ "token": plain["uri"] })).await.unwrap();
    assert_eq!(kind(&context, "invite_revoke", json!({ "token": plain["token"] })).await, ErrorKind::NotFound);
    // What somebody has invited goes with the account.
    run(&context, "user_remove", json!({ "jid": "romeo@example.org" })).await.unwrap();
    assert_eq!(list().await, 0);
}

#[tokio::test]
async fn notices_are_set_shown_and_removed_for_each_domain() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    let motd = json!({ "kind": "motd" });
    run(&context, "notice_set", json!({ "kind": "motd", "text": "Tea at five" })).await.unwrap();
    run(&context, "notice_set", json!({ "kind": "welcome", "text": "Welcome" })).await.unwrap();
    assert_eq!(run(&context, "notice_show", motd.clone()).await.unwrap()["text"], "Tea at five");
    run(&context, "notice_remove", motd.clone()).await.unwrap();
    assert_eq!(run(&context, "notice_show", motd).await.unwrap()["text"], Value::Null);
    assert_eq!(run(&context, "notice_show", json!({ "kind": "welcome" })).await.unwrap()["text"], "Welcome");
    assert_eq!(*noted.0.lock(), ["motd of example.org: Tea at five", "motd of example.org: "]);
    assert_eq!(kind(&context, "notice_set", json!({ "kind": "motd", "text": "" })).await, ErrorKind::Invalid);
    let elsewhere = json!({ "kind": "motd", "text": "x", "host": "example.net" });
    assert_eq!(kind(&context, "notice_set", elsewhere).await, ErrorKind::NotServed);
}

#[tokio::test]
async fn sessions_are_listed_in_order_and_ended_and_told() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    let list = run(&context, "session_list", json!({ "host": "example.org", "limit": 1 })).await.unwrap();
    assert_eq!(list["accounts"], json!(["a@example.org"]));
    assert_eq!(list["sessions"][0]["jid"], "a@example.org/1");
    let idle = run(&context, "session_list", json!({ "host": "example.org", "state": "idle" })).await.unwrap();
    assert_eq!(idle["accounts"], json!(["b@example.org"]));
    let counts = run(&context, "domain_show", json!({})).await.unwrap();
    assert_eq!((&counts["online"], &counts["active"], &counts["idle"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!((&counts["sessions"], &counts["detached"]), (&json!(2), &json!(1)));
    let one = run(&context, "session_list", json!({ "jid": "c@example.net" })).await.unwrap();
    assert_eq!(one["sessions"].as_array().unwrap().len(), 1);
    run(&context, "session_end", json!({ "jid": "a@example.org/1" })).await.unwrap();
    assert_eq!(kind(&context, "session_end", json!({ "jid": "example.org" })).await, ErrorKind::Invalid);
    assert_eq!(run(&context, "announce", json!({ "text": "hi" })).await.unwrap()["sent"], 2);
    assert_eq!(kind(&context, "announce", json!({ "text": " " })).await, ErrorKind::Invalid);
    run(&context, "stop", json!({ "announcement": "bye" })).await.unwrap();
    assert_eq!(*noted.0.lock(), ["ended a@example.org/1", "to example.org: hi", "to example.org: bye"]);
    assert_eq!(kind(&super::tests::context(), "session_list", json!({})).await, ErrorKind::NotRunning);
}

#[tokio::test]
async fn an_import_answers_each_row_in_its_place() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    run(&context, "user_add", json!({ "jid": "b@example.org", "password": "old" })).await.unwrap();
    let keys = derive("new", &policy()).unwrap();
    let row = |jid: &str| serde_json::to_value(Row::new(&BareJid::parse(jid).unwrap(), &keys)).unwrap();
    let rows = json!([
        row("a@example.org"),
        row("a@example.net"),
        { "jid": "c@example.org", "credentials": "AAAA" },
        row("b@example.org"),
    ]);
    let answer = run(&context, "user_import_batch", json!({ "rows": rows })).await.unwrap();
    assert_eq!(answer["outcomes"], json!(["created", "not-served", "invalid", "exists"]));
    assert_eq!(*noted.0.lock(), [""; 0]);
    let answer = run(&context, "user_import_batch", json!({ "rows": rows, "replace": true })).await.unwrap();
    assert_eq!(answer["outcomes"], json!(["replaced", "not-served", "invalid", "replaced"]));
    assert_eq!(*noted.0.lock(), ["password a@example.org", "password b@example.org"]);
    let found = context.accounts.find(&BareJid::parse("b@example.org").unwrap()).await.unwrap().unwrap();
    assert!(found.keys[0].check_password("new"));
    let exist = run(&context, "user_exists", json!({ "jids": ["c@example.org", "b@example.org"] })).await.unwrap();
    assert_eq!(exist["exist"], json!([false, true]));
}

#[tokio::test]
async fn what_needs_a_running_server_says_so() {
    let context = context();
    assert_eq!(kind(&context, "reload", json!({})).await, ErrorKind::NotRunning);
    assert_eq!(kind(&context, "log_level", json!({ "filter": "debug" })).await, ErrorKind::NotRunning);
    let status = run(&context, "status", json!({})).await.unwrap();
    assert_eq!(status["running"], false);
    assert_eq!(status["domains"], json!([{ "domain": "example.org", "accounts": 0 }]));
}

#[tokio::test]
async fn a_running_server_is_asked() {
    let context = running(&Arc::default());
    assert_eq!(run(&context, "reload", json!({})).await.unwrap()["reloaded"], json!(["limits"]));
    assert_eq!(run(&context, "log_level", json!({ "filter": "debug" })).await.unwrap(), json!({ "filter": "debug" }));
    assert_eq!(kind(&context, "log_level", json!({ "filter": "loud" })).await, ErrorKind::Invalid);
    let status = run(&context, "status", json!({})).await.unwrap();
    assert_eq!(
        (&status["running"], &status["uptime_seconds"], &status["sessions"]),
        (&json!(true), &json!(7), &json!(3))
    );
    assert_eq!(status["listen"], json!([{ "kind": "c2s-tls", "address": "127.0.0.1:5223" }]));
}

/// Runs `face` against a served socket in `data`, then stops it.
async fn with_socket<T: Send + 'static>(data: &Path, face: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let socket = AdminSocket::bind(data).unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(socket.serve(Arc::new(context()), stopped));
    let folder = data.to_owned();
    let result = tokio::task::spawn_blocking(move || face(&folder)).await.unwrap();
    stop.send(true).unwrap();
    serving.await.unwrap();
    result
}

#[tokio::test]
async fn a_face_talks_to_the_server_over_its_socket_which_only_the_owner_may_use() {
    let data = tempfile::tempdir().unwrap();
    let mode = with_socket(data.path(), |data| {
        let mut client = Client::connect(data).unwrap().unwrap();
        let arguments = user_add::Arguments { jid: "a@example.org".into(), password: "x".into() };
        let added = client.call::<UserAdd>(&arguments).unwrap();
        assert_eq!(added, Ok(json!({ "jid": "a@example.org" })));
        // The same connection again: one answer a request, in order.
        let error = client.call::<UserAdd>(&arguments).unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Exists);
        std::fs::metadata(socket_path(data)).unwrap().permissions().mode()
    })
    .await;
    assert_eq!(mode & 0o777, 0o600);
    assert!(!socket_path(data.path()).exists());
    assert!(Client::connect(data.path()).unwrap().is_none());
}

#[tokio::test]
async fn a_dead_servers_socket_is_no_server_and_is_replaced() {
    let data = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(socket_path(data.path())).unwrap());
    assert!(socket_path(data.path()).exists());
    assert!(Client::connect(data.path()).unwrap().is_none());
    with_socket(data.path(), |data| assert!(Client::connect(data).unwrap().is_some())).await;
}

#[tokio::test]
async fn the_socket_of_another_server_is_left_in_place() {
    let data = tempfile::tempdir().unwrap();
    let old = AdminSocket::bind(data.path()).unwrap();
    let new = AdminSocket::bind(data.path()).unwrap();
    drop(old);
    assert!(new.path().exists());
    drop(new);
    assert!(!socket_path(data.path()).exists());
}

#[tokio::test]
async fn a_folder_with_a_path_too_long_for_a_socket_works_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    let deep = data.path().join("a".repeat(60)).join("b".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    with_socket(&deep, |data| assert!(Client::connect(data).unwrap().is_some())).await;
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_answered_and_the_next_one_is_served() {
    let data = tempfile::tempdir().unwrap();
    let lines = with_socket(data.path(), |data| {
        let mut stream = UnixStream::connect(socket_path(data)).unwrap();
        stream.write_all(b"{\n{\"operation\":\"status\",\"x\":1}\n{\"operation\":\"status\"}\n").unwrap();
        BufReader::new(stream).lines().take(3).map(Result::unwrap).collect::<Vec<_>>()
    })
    .await;
    assert!(lines[0].contains(r#""kind":"invalid""#), "{}", lines[0]);
    assert!(lines[1].contains(r#""kind":"invalid""#), "{}", lines[1]);
    assert!(lines[2].starts_with(r#"{"ok":"#), "{}", lines[2]);
}

#[tokio::test]
async fn a_full_import_with_the_longest_addresses_fits_a_request() {
    let data = tempfile::tempdir().unwrap();
    let outcomes = with_socket(data.path(), |data| {
        let policy = ScramPolicy { hashes: vec![(Hash::Sha1, 4096), (Hash::Sha256, 4096), (Hash::Sha512, 4096)] };
        let keys = derive("x", &policy).unwrap();
        // A backslash is written as two.
        let account = |row: usize| format!("{row:04}{}@example.org", "\\".repeat(1019));
        let rows = (0..ROWS_MAX).map(|row| Row::new(&BareJid::parse(&account(row)).unwrap(), &keys)).collect();
        let mut client = Client::connect(data).unwrap().unwrap();
        client.call::<UserImportBatch>(&user_import_batch::Arguments { rows, replace: false }).unwrap().unwrap()
    })
    .await;
    assert_eq!(outcomes["outcomes"], json!(vec!["created"; ROWS_MAX]));
}

#[tokio::test]
async fn a_request_without_end_is_cut_off() {
    let data = tempfile::tempdir().unwrap();
    let answer = with_socket(data.path(), |data| {
        let mut stream = UnixStream::connect(socket_path(data)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let writer = std::thread::spawn(move || {
            let part = vec![b' '; 64 * 1024];
            // The server closes at some point; until then it must not take more than its limit and what sockets hold.
            (0..1024).take_while(|_| stream.write_all(&part).is_ok()).count()
        });
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(writer.join().unwrap() < 1024);
        line
    })
    .await;
    assert!(answer.contains("longer than 8388608 bytes"), "{answer}");
}

#[tokio::test]
async fn an_account_that_is_replaced_cannot_be_used_until_it_is_whole_and_keeps_what_is_not_its_own() {
    let noted = Arc::new(Noted::default());
    let context = running(&noted);
    let juliet = BareJid::parse("juliet@example.org").unwrap();
    context.accounts.create(&juliet, "x").await.unwrap();
    let owner = crate::accounts::owner(&juliet);
    let store = context.accounts.store().clone();
    let private = store.map::<String>("private");
    let rooms = store.map::<String>("rooms-affiliated");
    let days = store.value::<String>("archive-days");
    let mut batch = magpie_store::Batch::new();
    private.put(&mut batch, &owner, "{a}b", &"<b xmlns='a'/>".to_owned());
    rooms.put(&mut batch, &owner, "room@rooms.example.org", &String::new());
    days.put(&mut batch, &owner, &"7".to_owned());
    store.commit(batch).await.unwrap();
    let part = |xml: Option<&str>| Part { jid: juliet.to_string(), xml: xml.map(str::to_owned) };
    let import = async |parts: Vec<Part>, replace| {
        let done = AccountImport::run(&context, account_import::Arguments { parts, replace }).await.unwrap();
        serde_json::from_value::<Vec<PartOutcome>>(done["outcomes"].clone()).unwrap()
    };
    let card = "<vCard xmlns='vcard-temp'><FN>J</FN></vCard>";
    let refused = [PartOutcome::Refused, PartOutcome::Refused];
    assert_eq!(import(vec![part(None), part(Some(card))], false).await, refused);
    assert_eq!(import(vec![part(Some(card))], true).await, refused[1..], "it has not begun");
    assert_eq!(private.count(&owner, "", None).await.unwrap(), 1);

    let kept = [PartOutcome::Kept(Vec::new()), PartOutcome::Kept(Vec::new())];
    assert_eq!(import(vec![part(None), part(Some(card))], true).await, kept);
    assert_eq!(*noted.0.lock(), ["ended all of juliet@example.org", "replaced juliet@example.org"]);
    assert!(context.accounts.exists(&juliet).await.unwrap(), "or what its sessions leave would be erased with the new");
    assert!(context.accounts.is_disabled(&juliet).await.unwrap());
    assert_eq!(private.count(&owner, "", None).await.unwrap(), 0);
    assert_eq!(rooms.count(&owner, "", None).await.unwrap(), 1);
    assert_eq!(days.get(&owner).await.unwrap().as_deref(), Some("7"));
    assert!(store.value::<Vec<u8>>("vcard").get(&owner).await.unwrap().is_some());
    // Of one that was cut off nothing is left when it begins anew.
    assert_eq!(import(vec![part(None)], true).await, kept[1..]);
    assert!(store.value::<Vec<u8>>("vcard").get(&owner).await.unwrap().is_none());
}
