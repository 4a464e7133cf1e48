//! The runs of a comparison as they come, one JSON line each, so that one that was interrupted goes on where it was.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::CompareError;
use super::rows::{Pace, Row, Step};
use crate::result::Run;

/// The file, and the runs in it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    runs: Vec<Run>,
}

impl Journal {
    /// A new file; one that is there is replaced.
    pub fn create(path: &Path) -> Result<Self, CompareError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(CompareError::file(folder))?;
        }
        let file = File::create(path).map_err(CompareError::file(path))?;
        Ok(Self { path: path.to_owned(), file, runs: Vec::new() })
    }

    /// Goes on with a file. A last line that was not written to its end is dropped; any other that is none of ours is an
    /// error.
    pub fn resume(path: &Path) -> Result<Self, CompareError> {
        let text = fs::read_to_string(path).map_err(CompareError::file(path))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut runs = Vec::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let run = serde_json::from_str(line)
                .map_err(|error| CompareError::Setup(format!("{}:{}: {error}", path.display(), number + 1)))?;
            runs.push(run);
        }
        let file = File::options().append(true).open(path).map_err(CompareError::file(path))?;
        file.set_len(whole as u64).map_err(CompareError::file(path))?;
        Ok(Self { path: path.to_owned(), file, runs })
    }

    /// Adds a run, and tells the disk.
    pub fn add(&mut self, run: Run) -> Result<(), CompareError> {
        let mut line = serde_json::to_string(&run).map_err(|error| CompareError::Setup(error.to_string()))?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(CompareError::file(&self.path))?;
        self.runs.push(run);
        Ok(())
    }

    /// All runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this step is done, at this pace.
    pub fn has(&self, step: &Step, pace: Pace) -> bool {
        let pace = Row::named(step.row).map_or(pace, |row| row.pace(pace));
        self.runs.iter().any(|run| {
            let number = |name: &str| run.parameters.get(name).and_then(serde_json::Value::as_f64);
            run.server == step.server
                && run.row() == Some(step.row)
                && number("round") == Some(step.round.into())
                && step.cores.is_none_or(|cores| number("cores") == Some(cores.into()))
                && number("seconds").is_none_or(|seconds| seconds == pace.seconds)
        })
    }

    /// Median of the operations a second of a row.
    pub fn median_rate(&self, row: &str, server: &str) -> Option<f64> {
        let of_row = |run: &&Run| run.server == server && run.row() == Some(row);
        let mut rates: Vec<f64> = self.runs.iter().filter(of_row).map(Run::rate).collect();
        rates.sort_by(f64::total_cmp);
        let middle = rates.len() / 2;
        if rates.len() % 2 == 1 {
            return Some(rates[middle]);
        }
        (middle > 0).then(|| f64::midpoint(rates[middle - 1], rates[middle]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PACE: Pace = Pace { rounds: 3, warmup: 2.0, seconds: 6.0 };

    fn run(server: &str, round: u32, operations: u64) -> Run {
        let parameters = [("row", "pairs-200".into()), ("round", round.into()), ("seconds", 6.0.into())];
        Run {
            server: server.to_owned(),
            seconds: 6.0,
            operations,
            parameters: parameters.map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value)).into(),
            ..Run::default()
        }
    }

    fn step(server: &str, round: u32) -> Step {
        Step { row: "pairs-200", server: server.to_owned(), round, cores: None }
    }

    #[test]
    fn a_comparison_goes_on_after_the_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/runs.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        journal.add(run("Magpie", 1, 600)).unwrap();
        journal.add(run("relay", 1, 6_000)).unwrap();
        drop(journal);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"scenario\":\"pai")).unwrap();

        let mut journal = Journal::resume(&path).unwrap();
        assert_eq!(journal.runs().len(), 2);
        assert!(journal.has(&step("relay", 1), PACE) && !journal.has(&step("relay", 2), PACE));
        journal.add(run("relay", 2, 6_600)).unwrap();
        assert_eq!(Journal::resume(&path).unwrap().runs().len(), 3);
    }

    #[test]
    fn runs_of_another_length_or_row_do_not_count_as_done() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("runs.jsonl")).unwrap();
        journal.add(run("Magpie", 1, 600)).unwrap();
        assert!(!journal.has(&step("Magpie", 1), Pace { seconds: 8.0, ..PACE }));
        assert!(!journal.has(&Step { row: "pairs-2000", ..step("Magpie", 1) }, PACE));
        assert!(!journal.has(&Step { cores: Some(2), ..step("Magpie", 1) }, PACE));
    }

    #[test]
    fn a_line_of_something_else_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        fs::write(&path, "hello\n").unwrap();
        assert!(Journal::resume(&path).unwrap_err().to_string().contains(":1:"));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("runs.jsonl")).unwrap();
        assert_eq!(journal.median_rate("pairs-200", "Magpie"), None);
        for operations in [600, 6_000, 1_200, 1_800] {
            journal.add(run("Magpie", 1, operations)).unwrap();
        }
        assert_eq!(journal.median_rate("pairs-200", "Magpie"), Some(250.0));
    }
}
