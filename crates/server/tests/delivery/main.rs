//! The promises of delivery under concurrency: what was acknowledged is never lost, arrives once, and in order.
//!
//! Many clients act at random, from a seed; what they see is written into a ledger, which is checked apart from them.
//! `MAGPIE_STRESS_SEEDS=1000` runs as many seeds, `MAGPIE_STRESS_FIRST=17` begins with that one. A seed fixes what
//! each client does, not how their steps interleave, so that a failure may need a few runs to come again.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../host/mod.rs"]
mod host;

mod actor;
mod client;
mod ledger;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actor::{Actor, Dice, Habit, World, address, user};
use client::Wire;
use magpie_server::Server;
use magpie_server::accounts::owner;
use magpie_server::config::Config;
use magpie_server::modules::offline::Spooled;
use magpie_store::Store;
use parking_lot::Mutex;
use process::Process;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 20;

/// Seeds that run at the same time: they mostly wait.
const AT_ONCE: usize = 8;

const ACTIONS: usize = 60;

/// After so long every session that nobody resumed is over.
const RESUMABLE: Duration = Duration::from_millis(1500);

const HABITS: [Habit; 5] = [Habit::Managed, Habit::Plain, Habit::Calm, Habit::Wild, Habit::Managed];

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// A server that lets sessions wait for one second, on a port of its own.
fn config(data: &std::path::Path, seed: u64) -> Config {
    let mut config = host::config(data);
    config.auth.hashes = vec!["sha-256".into()];
    config.limits.resume_seconds_max = 1;
    if is_narrow(seed) {
        config.limits.unacked_stanzas_max = 24;
        config.limits.unsent_bytes_max = 200_000;
    }
    config
}

/// Whether the limits are so low that sessions meet them.
fn is_narrow(seed: u64) -> bool {
    seed % 4 == 3
}

async fn create_accounts(store: &Store, config: &Config) {
    let accounts = magpie_server::accounts::Accounts::new(store, config.auth.scram_policy());
    for index in 0..HABITS.len() {
        accounts.create(&address(index), "secret").await.unwrap();
    }
}

async fn run(seed: u64) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = match seed % 2 {
        0 => Store::memory(),
        _ => Store::open(&folder.path().join("data")).unwrap(),
    };
    let config = config(folder.path(), seed);
    create_accounts(&store, &config).await;
    let server = Server::start(config, store.clone()).await.unwrap();
    let world = Arc::new(World {
        address: server.addresses()[0].1,
        ledger: Mutex::default(),
        habits: HABITS.to_vec(),
        large: if is_narrow(seed) { 40_000 } else { 0 },
        server: Some(Arc::clone(&server)),
        restarts: false,
    });
    act(&world, seed).await;
    let mut wrong = Vec::new();
    all_gone(&server, &mut wrong).await;
    for index in 0..HABITS.len() {
        Actor::new(&world, index, 9, Dice(0)).drain(Some(&store)).await;
    }
    all_gone(&server, &mut wrong).await;
    for index in 0..HABITS.len() {
        let left = store.log::<Spooled>("spool").count(&owner(&address(index))).await.unwrap();
        if left > 0 {
            wrong.push(format!("{left} messages are left in the spool of account {index}"));
        }
    }
    server.shutdown().await;
    let ledger = world.ledger.lock();
    wrong.extend(ledger.complaints.iter().cloned());
    ledger.check_none_lost(false, &mut wrong);
    ledger.check_once_a_session(&mut wrong);
    ledger.check_once_an_account(&mut wrong);
    ledger.check_order(&mut wrong);
    ledger.check_it_proves_something(50, &mut wrong);
    wrong
}

async fn act(world: &Arc<World>, seed: u64) {
    let mut actors = actors(world, seed);
    while let Some(outcome) = actors.join_next().await {
        outcome.unwrap();
    }
}

fn actors(world: &Arc<World>, seed: u64) -> JoinSet<()> {
    let mut dice = Dice(seed);
    let mut actors = JoinSet::new();
    for (index, habit) in HABITS.iter().enumerate() {
        let devices = if *habit == Habit::Calm { 1 } else { 2 };
        for device in 0..devices {
            actors.spawn(Actor::new(world, index, device, Dice(dice.next())).act(ACTIONS));
        }
    }
    actors
}

/// Waits until every session is over.
async fn all_gone(server: &Arc<Server>, wrong: &mut Vec<String>) {
    let end = Instant::now() + Duration::from_secs(12);
    // More than once: what a session does at its very end takes its account up again for a moment.
    let mut quiet = 0;
    while quiet < 3 {
        if Instant::now() > end {
            let left: Vec<_> = server.registry().all().iter().map(|session| session.jid.to_string()).collect();
            let accounts = server.registry().accounts();
            wrong.push(format!("{accounts} accounts are left in the registry, with the sessions {left:?}"));
            return;
        }
        quiet = if server.registry().accounts() == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_arrive_once_and_in_order() {
    for_each_seed(SEEDS, run).await;
}

/// Runs as many seeds as the environment says, or as are usual, and fails with those that failed.
async fn for_each_seed<F: Future<Output = Vec<String>> + Send + 'static>(usual: u64, run: fn(u64) -> F) {
    let first = from_environment("MAGPIE_STRESS_FIRST", 1);
    let mut seeds = first..first + from_environment("MAGPIE_STRESS_SEEDS", usual);
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            running.spawn(async move { (seed, run(seed).await) });
        }
        let Some(outcome) = running.join_next().await else { break };
        let (seed, wrong) = outcome.unwrap();
        if !wrong.is_empty() {
            println!("seed {seed}:\n  {}", wrong.join("\n  "));
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "failed seeds: {failed:?}; again: MAGPIE_STRESS_FIRST={} MAGPIE_STRESS_SEEDS=1",
        failed[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_the_end_of_the_process() {
    for_each_seed(8, run_to_the_end).await;
}

/// The server stops, in order or by `SIGKILL`, while everybody acts; what it acknowledged is there when it is back.
async fn run_to_the_end(seed: u64) -> Vec<String> {
    let killed = seed.is_multiple_of(2);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data")).unwrap();
    create_accounts(&store, &config(folder.path(), seed)).await;
    store.close();
    let process = Process::start(folder.path(), seed).await;
    let mut world = World {
        address: process.address,
        ledger: Mutex::default(),
        habits: HABITS.to_vec(),
        large: if is_narrow(seed) { 40_000 } else { 0 },
        server: None,
        restarts: false,
    };
    let running = Arc::new(world);
    let mut actors = actors(&running, seed);
    let end = Instant::now() + client::PATIENCE;
    while running.ledger.lock().handled_count() < 20 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(Dice(seed).below(1000))).await;
    match killed {
        true => process.kill(),
        false => process.stop().await,
    }
    // What is on its way to them they may still read, but nobody comes back.
    actors.abort_all();
    while actors.join_next().await.is_some() {}
    running.ledger.lock().all_dropped();
    world = Arc::into_inner(running).unwrap();

    let process = Process::start(folder.path(), seed).await;
    world.address = process.address;
    let world = Arc::new(world);
    if !killed {
        tokio::time::sleep(RESUMABLE).await;
    }
    for index in 0..HABITS.len() {
        Actor::new(&world, index, 9, Dice(0)).drain(None).await;
    }
    process.stop().await;
    let mut wrong = left_in_spools(folder.path()).await;
    let ledger = world.ledger.lock();
    ledger.check_none_lost(killed, &mut wrong);
    ledger.check_once_a_session(&mut wrong);
    ledger.check_it_proves_something(10, &mut wrong);
    if !killed {
        ledger.check_once_an_account(&mut wrong);
    }
    wrong
}

/// What is wrong where somebody's spool is not empty.
async fn left_in_spools(folder: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let store = Store::open(&folder.join("data")).unwrap();
    for index in 0..HABITS.len() {
        let left = store.log::<Spooled>("spool").count(&owner(&address(index))).await.unwrap();
        if left > 0 {
            wrong.push(format!("{left} messages are left in the spool of account {index}"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_resumed_over_restarts_lose_nothing_and_get_nothing_twice() {
    for_each_seed(8, run_over_restarts).await;
    assert!(RESUMED.load(Ordering::Relaxed) > 0, "no session was resumed over a restart, which proves little");
}

/// How many sessions were resumed over restarts.
static RESUMED: AtomicUsize = AtomicUsize::new(0);

/// The server stops in order and comes back, twice, while everybody acts; who can resume the session does.
async fn run_over_restarts(seed: u64) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data")).unwrap();
    create_accounts(&store, &config(folder.path(), seed)).await;
    store.close();
    let mut process = Process::start(folder.path(), seed).await;
    let world = Arc::new(World {
        address: process.address,
        ledger: Mutex::default(),
        habits: HABITS.to_vec(),
        large: if is_narrow(seed) { 40_000 } else { 0 },
        server: None,
        restarts: true,
    });
    let mut actors = actors(&world, seed);
    let mut dice = Dice(seed);
    for _ in 0..2 {
        let (before, end) = (world.ledger.lock().handled_count(), Instant::now() + client::PATIENCE);
        while world.ledger.lock().handled_count() < before + 15 && !actors.is_empty() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(500))).await;
        process.stop().await;
        process = Process::start_at(folder.path(), seed, world.address.port()).await;
    }
    while let Some(outcome) = actors.join_next().await {
        outcome.unwrap();
    }
    tokio::time::sleep(RESUMABLE).await;
    for index in 0..HABITS.len() {
        Actor::new(&world, index, 9, Dice(0)).drain(None).await;
    }
    process.stop().await;
    let mut wrong = left_in_spools(folder.path()).await;
    let ledger = world.ledger.lock();
    wrong.extend(ledger.complaints.iter().cloned());
    ledger.check_none_lost(false, &mut wrong);
    ledger.check_once_a_session(&mut wrong);
    ledger.check_once_an_account(&mut wrong);
    ledger.check_it_proves_something(30, &mut wrong);
    RESUMED.fetch_add(ledger.resumed_over_restarts, Ordering::Relaxed);
    wrong
}

/// A client that did not read for a while, and reads now, gets all there is without anything else happening.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_slow_reader_goes_out_once_it_reads() {
    const MESSAGES: usize = 80;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::memory();
    // Wide: the sender must not be ended for what the reader does not read.
    let config = config(folder.path(), 0);
    create_accounts(&store, &config).await;
    let server = Server::start(config, store).await.unwrap();
    let at = server.addresses()[0].1;
    let mut reader = Wire::login_with(at, &user(0), Some(4096)).await.unwrap();
    reader.bind("slow").await.unwrap();
    reader.send("<presence/>").await;
    reader.expect("<presence").await.unwrap();
    let mut sender = Wire::login(at, &user(1)).await.unwrap();
    sender.bind("fast").await.unwrap();
    let body = "x".repeat(40_000);
    for _ in 0..MESSAGES {
        let to = address(0);
        sender.send(&format!("<message to='{to}' type='chat' id='m0'><body>{body}</body></message>")).await;
    }
    // The answer comes after all of them were routed.
    sender.send("<iq type='get' id='all'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    sender.expect("<iq").await.unwrap();
    for received in 0..MESSAGES {
        assert!(reader.expect("<message").await.is_some(), "stuck after {received}");
    }
    server.shutdown().await;
}

/// Not a test of its own: the process that another test starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_for_another_test() {
    process::serve().await;
}
