//! Tables of Mnesia where they lie: `.DCD` with its `.DCL`, or `.DAT`, and over them what `PREVIOUS.LOG` and `LATEST.LOG` have of the
//! table; and logs of records that `disk_log` wrote. `docs/erlang-files.md` has the formats.
//!
//! A lookup gives what Mnesia would load if it started now from these files. `.DAT` files are looked up as other files of DETS. For all others
//! there is an index in memory, from a key's hash to where it lies; each lookup first looks whether files have grown or were replaced, and reads
//! what has come.

mod changes;
mod index;
mod layer;

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magpie_etf::{Builder, Decoder, Integer, Tape, Term, TermKind};
use tokio::sync::Mutex;

use self::index::Change;
use self::layer::{Form, Layer, Shape, Step};
use super::disk::Stamp;
use super::{Found, Lookup, Source, SourceError, dets, disk, disk_log, key, record};
use crate::config::{KeyKind, TermSource, Terms};

/// Lookups while Mnesia moves what it has from one file to the next.
const TRIES: u32 = 8;

/// A table of Mnesia, or a log of records.
pub struct Mnesia {
    table: Arc<Mutex<Table>>,
    key: KeyKind,
}

impl fmt::Debug for Mnesia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mnesia").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Mnesia {
    /// A table whose files need not be there yet.
    ///
    /// # Errors
    /// If the path does not name a file that can be read by itself.
    pub fn open(source: &TermSource, settings: &Terms) -> Result<Self, String> {
        let table = Table::new(&source.path, settings.term_bytes_max)?;
        Ok(Self { table: Arc::new(Mutex::new(table)), key: source.key })
    }
}

impl Source for Mnesia {
    fn get<'a>(&'a self, text: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let key = key::parse(self.key, text)?;
            let mut table = Arc::clone(&self.table).lock_owned().await;
            disk::aside(move || {
                let state = table.state(key.root())?;
                // Records are read without the others waiting.
                drop(table);
                state.found(key.root())
            })
            .await
        })
    }
}

/// Where the table itself lies.
enum Base {
    /// A log of records, and one of changes.
    Logs(Layer),
    Dets(PathBuf),
}

struct Table {
    folder: PathBuf,
    shape: Shape,
    base: Base,
    /// The transactions that are in no other file yet.
    recent: Layer,
    term_bytes_max: usize,
}

impl Table {
    fn new(path: &Path, term_bytes_max: usize) -> Result<Self, String> {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if name.is_empty() {
            return Err("`path` must name the file".into());
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let transactions = [folder.join("PREVIOUS.LOG"), folder.join("LATEST.LOG")];
        let mut recent = Layer::new(&[(&transactions[0], Form::Transactions), (&transactions[1], Form::Transactions)]);
        let base = match extension {
            "DCD" => Base::Logs(Layer::new(&[(path, Form::Records), (&path.with_extension("DCL"), Form::Changes)])),
            "DAT" => Base::Dets(path.to_path_buf()),
            "DCL" => return Err("a .DCL file has only what came after the .DCD beside it, which is to be named".into()),
            _ => {
                recent = Layer::new(&[]);
                Base::Logs(Layer::new(&[(path, Form::Records)]))
            }
        };
        let item_bytes_max = term_bytes_max.saturating_mul(4).max(64 << 20);
        let shape = Shape { table: name.to_owned(), item_bytes_max, ..Shape::default() };
        Ok(Self { folder, shape, base, recent, term_bytes_max })
    }

    /// What there is to be known of a key, after a look at the files.
    fn state(&mut self, key: Term<'_>) -> Result<State, SourceError> {
        for _ in 0..TRIES {
            let before = self.stamps()?;
            self.look_at_shape()?;
            let state = self.try_state(key)?;
            let after = self.stamps()?;
            let is_same = before.iter().zip(&after).all(|(before, after)| match (before, after) {
                (None, None) => true,
                (Some(before), Some(after)) => before.is_same_file(after),
                _ => false,
            });
            if is_same {
                return Ok(state);
            }
        }
        Err(SourceError::Unavailable("its files are replaced all the time".into()))
    }

    fn stamps(&self) -> Result<Vec<Option<Stamp>>, SourceError> {
        let mut stamps = match &self.base {
            Base::Logs(layer) => layer.stamps()?,
            Base::Dets(_) => Vec::new(),
        };
        stamps.extend(self.recent.stamps()?);
        Ok(stamps)
    }

    /// Reads from the schema what kind of table it is, when its files have become others.
    fn look_at_shape(&mut self) -> Result<(), SourceError> {
        let goes_on = self.recent.can_go_on(&self.recent.stamps()?)
            && match &self.base {
                Base::Logs(layer) => layer.can_go_on(&layer.stamps()?),
                Base::Dets(_) => true,
            };
        let is_read = self.recent.is_read() || matches!(&self.base, Base::Logs(layer) if layer.is_read());
        if (goes_on && is_read) || self.recent.is_empty() {
            return Ok(());
        }
        let mut builder = Builder::new();
        let name = builder.atom(&self.shape.table).and_then(|()| builder.finish());
        let name = name.map_err(|error| SourceError::Damaged(error.to_string()))?;
        let found = dets::lookup(&self.folder.join("schema.DAT"), name.root(), self.term_bytes_max);
        let Some(object) = found.ok().flatten().and_then(|found| found.objects.into_iter().next()) else {
            return Ok(());
        };
        let Ok(tape) = magpie_etf::decode(&object) else { return Ok(()) };
        let kind = tape.root().as_tuple().and_then(|mut fields| fields.nth(2));
        let kind = kind.and_then(|properties| changes::property(properties, "type")).and_then(Term::as_atom);
        let (is_bag, by_value) = (kind == Some("bag"), kind == Some("ordered_set"));
        if (self.shape.is_bag, self.shape.keys.by_value) != (is_bag, by_value) {
            (self.shape.is_bag, self.shape.keys.by_value) = (is_bag, by_value);
            self.recent.reset();
            if let Base::Logs(layer) = &mut self.base {
                layer.reset();
            }
        }
        Ok(())
    }

    fn try_state(&mut self, key: Term<'_>) -> Result<State, SourceError> {
        let hash = self.shape.keys.hash(key);
        let mut steps;
        let mut objects = Vec::new();
        let mut version = DefaultHasher::new();
        let mut is_bag = self.shape.is_bag;
        match &mut self.base {
            // What is in the base may come from what is recent, not the other way.
            Base::Logs(base) => {
                base.refresh(&self.shape)?;
                self.recent.refresh(&self.shape)?;
                steps = self.recent.steps(hash).collect::<Vec<_>>();
                if !self.recent.index.is_cleared && !steps.iter().any(|step| is_whole(step, is_bag)) {
                    steps.extend(base.steps(hash));
                }
                steps.reverse();
            }
            Base::Dets(path) => {
                self.recent.refresh(&self.shape)?;
                steps = self.recent.steps(hash).collect();
                steps.reverse();
                // What DETS has may have been counted already: Mnesia counts only what begins anew.
                if !self.recent.index.is_cleared {
                    let begins = steps.iter().position(|step| step.change != Change::Count);
                    steps.drain(..begins.unwrap_or(steps.len()));
                    if let Some(found) = dets::lookup(path, key, self.term_bytes_max)? {
                        is_bag |= found.is_bag;
                        objects = found.objects;
                        found.stamp.version().hash(&mut version);
                    }
                }
            }
        }
        for step in &steps {
            (step.stamp.version(), step.at, step.nth).hash(&mut version);
        }
        let shape = Shape { is_bag, ..self.shape.clone() };
        Ok(State { steps, objects, shape, term_bytes_max: self.term_bytes_max, version: version.finish() })
    }
}

/// Whether nothing that was before counts.
fn is_whole(step: &Step, is_bag: bool) -> bool {
    step.change == Change::Delete || (step.change == Change::Write && !is_bag)
}

/// What happened to a key, in order, beginning with some objects.
struct State {
    steps: Vec<Step>,
    objects: Vec<Vec<u8>>,
    shape: Shape,
    term_bytes_max: usize,
    version: u64,
}

impl State {
    fn found(mut self, key: Term<'_>) -> Result<Option<Found>, SourceError> {
        let wanted = self.shape.keys.bytes(key);
        let begins = self.steps.iter().rposition(|step| is_whole(step, self.shape.is_bag));
        if let Some(begins) = begins {
            self.steps.drain(..begins);
            self.objects.clear();
        }
        let mut objects = Objects { all: std::mem::take(&mut self.objects), shape: &self.shape };
        for step in std::mem::take(&mut self.steps) {
            let item = disk_log::item_at(&step.disk, step.at, self.shape.item_bytes_max)?;
            match step.form {
                Form::Records => {
                    let mut decoder = Decoder::default();
                    let there = record::element(&mut decoder, &item, 2).map_err(damaged)?;
                    if there.is_some_and(|there| self.shape.keys.bytes(there.root()) == wanted) {
                        objects.write(item)?;
                    }
                }
                form => {
                    let tape = magpie_etf::decode(&item).map_err(damaged)?;
                    let is_transaction = form == Form::Transactions;
                    let said = changes::nth(tape.root(), is_transaction, &self.shape.table, step.nth);
                    if let Some([there, value]) = said
                        && self.shape.keys.bytes(there) == wanted
                    {
                        let of_record = value.as_tuple().and_then(|mut fields| fields.nth(1));
                        let is_its_own = of_record.is_some_and(|there| self.shape.keys.bytes(there) == wanted);
                        if step.change == Change::Write && !is_its_own {
                            return Err(SourceError::Damaged("a record whose key is another".into()));
                        }
                        objects.change(step.change, key, value)?;
                    }
                }
            }
            if objects.bytes() > self.term_bytes_max {
                return Err(SourceError::Unavailable(format!("more than {} bytes", self.term_bytes_max)));
            }
        }
        let mut all = objects.all;
        let bytes = match (all.len(), self.shape.is_bag) {
            (0, _) => return Ok(None),
            (_, true) => record::list(&mut Decoder::default(), &all).map_err(damaged)?,
            (_, false) => all.swap_remove(0),
        };
        Ok(Some(Found { bytes: bytes.into(), version: Some(format!("{:016x}", self.version)) }))
    }
}

fn damaged(error: magpie_etf::DecodeError) -> SourceError {
    SourceError::Damaged(error.to_string())
}

/// The objects of one key while changes are made to them.
struct Objects<'s> {
    all: Vec<Vec<u8>>,
    shape: &'s Shape,
}

impl Objects<'_> {
    fn bytes(&self) -> usize {
        self.all.iter().map(Vec::len).sum()
    }

    fn write(&mut self, object: Vec<u8>) -> Result<(), SourceError> {
        if !self.shape.is_bag {
            self.all.clear();
        } else if self.position(&object)?.is_some() {
            return Ok(());
        }
        self.all.push(object);
        Ok(())
    }

    fn change(&mut self, change: Change, key: Term<'_>, value: Term<'_>) -> Result<(), SourceError> {
        match change {
            Change::Write => self.write(magpie_etf::encode(value)),
            Change::Delete => {
                self.all.clear();
                Ok(())
            }
            Change::DeleteObject => {
                if let Some(at) = self.position(&magpie_etf::encode(value))? {
                    self.all.remove(at);
                }
                Ok(())
            }
            Change::Count => self.count(key, value),
        }
    }

    /// Where an object is that is the same.
    fn position(&self, object: &[u8]) -> Result<Option<usize>, SourceError> {
        if let Some(at) = self.all.iter().position(|there| there == object) {
            return Ok(Some(at));
        }
        let object = magpie_etf::decode(object).map_err(damaged)?;
        for (at, there) in self.all.iter().enumerate() {
            if magpie_etf::decode(there).map_err(damaged)? == object {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// `{Name,Key,Number}` by `{Name,Increment}`: never below 0, and from 0 on if there is nothing.
    fn count(&mut self, key: Term<'_>, value: Term<'_>) -> Result<(), SourceError> {
        let fails = || SourceError::Damaged("a counter that cannot be".into());
        let [name, increment] = changes::tuple(value).ok_or_else(fails)?;
        let increment = integer(increment).ok_or_else(fails)?;
        let tape: Option<Tape<'_>> = match self.all.first() {
            Some(object) => Some(magpie_etf::decode(object).map_err(damaged)?),
            None => None,
        };
        let there =
            tape.as_ref().and_then(|tape| changes::tuple::<3>(tape.root())).and_then(|[.., number]| integer(number));
        let number = match there.and_then(|there| there.checked_add(increment)) {
            Some(number) if number >= 0 => number,
            _ => increment.max(0),
        };
        let mut digits = Builder::new();
        digits.big(false, &number.to_le_bytes());
        let digits = digits.finish().map_err(|_| fails())?;
        let mut object = vec![131, 104, 3];
        for part in [name, key, digits.root()] {
            object.extend_from_slice(&magpie_etf::encode(part)[1..]);
        }
        self.all = vec![object];
        Ok(())
    }
}

fn integer(term: Term<'_>) -> Option<i128> {
    match term.kind() {
        TermKind::Integer(integer) => Integer::to_i128(integer),
        _ => None,
    }
}
