//! Views on Elasticsearch and OpenSearch: read models outside of the store, found by their fields and by full text.
//!
//! Each generation of a projection is an index of its own. Rows carry the log position that led to them as their external
//! version, and the checkpoint lives in the same index, so that both are lost together or not at all.
//! `docs/internals/elasticsearch.md` draws the documents and the steps of a write.
//!
//! Tested on OpenSearch 2.19. Nothing is used that Elasticsearch 7.11 and later doesn't have, but it is not tested there.

mod bulk;
mod client;
mod document;
mod engine;
mod index;
mod mapping;
mod marks;
mod names;
mod options;
mod parts;
mod places;
mod search;
mod state;
mod tls;
mod views;

pub use engine::ElasticsearchViews;
pub use options::ElasticsearchOptions;
