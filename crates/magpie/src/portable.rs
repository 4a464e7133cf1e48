//! XEP-0227: `magpie export` and `magpie import`, accounts with their data in a file that other servers write and read too.

mod export;
mod file;
mod import;

pub(crate) use export::export;
pub(crate) use import::import;
