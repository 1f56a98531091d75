//! The bodies of the fuzz targets, on the corpus and on what is made of it by chance.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod corpus;
mod hostile;
mod targets;
