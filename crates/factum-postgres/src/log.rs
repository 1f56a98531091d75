//! Reading the log: in order, by stream, by correlation.

use std::pin::pin;

use factum_core::{
    At, Category, EpochSpan, Error, LogFilter, LogPage, MessageId, PAGE_BYTES_MAX, Position,
    Record, StreamId, StreamPage, StreamSummary, Timestamp, Version,
};
use futures_util::TryStreamExt as _;
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call},
    connection::Connection,
    error::{Doing, column, damaged},
    number::{place, rows, signed},
    record::{self, COLUMNS},
    schema::Schema,
    shared::Shared,
    streams::{self, Head},
    text::{escape, unescape},
    view_table::push,
};

/// How many rows are reserved for before any has come.
const ROWS_RESERVED_MAX: usize = 1_024;

/// Asks where the log ends.
fn head_call(schema: &Schema) -> Call {
    schema.call("SELECT epoch, position FROM factum.records ORDER BY position DESC LIMIT 1")
}

fn place_of(row: Option<&Row>) -> Result<At, Error> {
    row.map_or(Ok(At::ZERO), |row| {
        Ok(place(column(row, 0)?, column(row, 1)?))
    })
}

/// The place of the last record.
pub(crate) async fn head(connection: &Connection, schema: &Schema) -> Result<At, Error> {
    let row = connection
        .row(&head_call(schema))
        .await
        .doing("read the head of the log")?;
    place_of(row.as_ref())
}

fn epochs_call(schema: &Schema) -> Call {
    schema.call("SELECT epoch, first, opened, reason FROM factum.epochs ORDER BY ordinal")
}

fn epochs_of(rows: &[Row]) -> Result<Vec<EpochSpan>, Error> {
    let span = |row: &Row| {
        Ok(EpochSpan {
            epoch: factum_core::Epoch(column::<i64>(row, 0)?.cast_unsigned()),
            first: Position(column::<i64>(row, 1)?.cast_unsigned()),
            opened: Timestamp::from_micros(column(row, 2)?),
            reason: unescape(column(row, 3)?),
        })
    };
    rows.iter().map(span).collect()
}

/// All epochs, oldest first.
pub(crate) async fn epochs(
    connection: &Connection,
    schema: &Schema,
) -> Result<Vec<EpochSpan>, Error> {
    epochs_of(
        &connection
            .rows(&epochs_call(schema))
            .await
            .doing("read the epochs")?,
    )
}

/// Refuses a place that does not lie on the present time line.
fn check_cursor(at: At, epochs: &[EpochSpan], head: At) -> Result<(), Error> {
    if at == At::ZERO {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(Error::conflict(format!(
            "place {at} is not on the present time line: {why}"
        )))
    };
    let Some(index) = epochs.iter().position(|span| span.epoch == at.epoch) else {
        return refuse(format!("there was no epoch {}", at.epoch));
    };
    let end = match epochs.get(index + 1) {
        Some(next) => Position(next.first.0 - 1),
        None => head.position,
    };
    if at.position <= end {
        return Ok(());
    }
    refuse(format!("epoch {} ends at position {end}", at.epoch))
}

/// Records behind `after`, looking through at most `limit`.
pub(crate) async fn page(
    connection: &Connection,
    shared: &Shared,
    after: At,
    filter: &LogFilter,
    limit: usize,
) -> Result<LogPage, Error> {
    const WHAT: &str = "read the log";
    let schema = &shared.schema;
    let last = signed(after.position.0).saturating_add(rows(limit));
    // Up to where it is looked through: positions are dense, so that a number of records is a difference of positions.
    let next = schema
        .call("SELECT epoch, position FROM factum.records WHERE position <= $1 ORDER BY position DESC LIMIT 1")
        .with(last);
    let mut sql = format!(
        "SELECT {COLUMNS} FROM factum.records r WHERE r.position > $1 AND r.position <= $2"
    );
    let mut values = Call::new("").with(signed(after.position.0)).with(last);
    let all = *filter == LogFilter::default();
    if !filter.categories.is_empty() {
        sql.push_str(" AND r.category = ANY ($3)");
        let names = filter.categories.iter();
        values.put(
            names
                .map(|category| category.as_str().to_string())
                .collect::<Vec<_>>(),
        );
    }
    if !filter.types.is_empty() {
        let number = values.values.len() + 1;
        push(&mut sql, format_args!(" AND r.type_name = ANY (${number})"));
        values.put(
            filter
                .types
                .iter()
                .map(|name| escape(name).into_owned())
                .collect::<Vec<_>>(),
        );
    }
    if filter.sent {
        sql.push_str(" AND r.topic IS NOT NULL");
    }
    // Cut where the records before have the bytes of a page: what is not going to be taken is not sent.
    let sql = format!(
        "SELECT * FROM (SELECT page.*, sum(octet_length(data)) OVER (ORDER BY position \
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM ({sql}) page) page \
         WHERE coalesce(bytes, 0) < {PAGE_BYTES_MAX} ORDER BY position"
    );
    values.sql = schema.of(&sql).into();
    // Each sees at least what the one before it saw, and the head is looked at first: what comes behind it in the
    // meantime is left for the next page.
    let answers = connection
        .rows_of_all(&[epochs_call(schema), head_call(schema), next])
        .await
        .doing(WHAT)?;
    let mut answers = answers.into_iter();
    let mut answer = || {
        answers
            .next()
            .map_or(Ok(Vec::new()), |rows| rows.doing(WHAT))
    };
    let epochs = epochs_of(&answer()?)?;
    let head = place_of(answer()?.first())?;
    check_cursor(after, &epochs, head)?;
    let next = place_of(answer()?.first())?;
    let mut page = LogPage {
        records: Vec::new(),
        next: after,
        head,
    };
    if head.position <= after.position || limit == 0 {
        return Ok(page);
    }
    page.next = if next.position > head.position {
        head
    } else {
        next
    };
    let end = page.next.position;
    let mut expected = after.position.next();
    page.records.reserve(limit.min(ROWS_RESERVED_MAX));
    let mut found = pin!(connection.stream(&values).await.doing(WHAT)?);
    let mut bytes = 0;
    while bytes < PAGE_BYTES_MAX
        && let Some(row) = found.try_next().await.doing(WHAT)?
    {
        let at = record::at(&row)?;
        if at.position > end {
            continue;
        }
        // Positions are dense: one that is missing was lost, and must not be passed over.
        if all && at.position != expected {
            return Err(missing(expected));
        }
        expected = at.position.next();
        let record = record::decode(&row)?;
        bytes += record.draft.encoded_len();
        page.records.push(record);
    }
    if bytes >= PAGE_BYTES_MAX {
        page.next = page.records.last().map_or(after, |record| record.at);
    } else if all && expected != end.next() {
        return Err(missing(expected));
    }
    shared.count_read(page.records.len());
    Ok(page)
}

fn missing(position: Position) -> Error {
    damaged(format!("the record at position {position}"))
}

/// Events of one stream from version `from` on.
pub(crate) async fn stream_page(
    connection: &Connection,
    shared: &Shared,
    stream: &StreamId,
    from: Version,
    limit: usize,
) -> Result<StreamPage, Error> {
    const WHAT: &str = "read a stream";
    let schema = &shared.schema;
    let from = Version(from.0.max(1));
    let call = schema
        .call(&format!(
            "SELECT {COLUMNS} FROM factum.records r WHERE r.category = $1 AND r.stream = $2 AND r.version >= $3 \
             ORDER BY r.version LIMIT $4"
        ))
        .with(stream.category().as_str().to_string())
        .with(stream.id().to_string())
        .with(signed(from.0))
        .with(rows(limit));
    let mut page = StreamPage {
        records: Vec::new(),
        version: Version::ZERO,
    };
    let mut expected = from;
    let mut last = None;
    {
        let mut found = pin!(connection.stream(&call).await.doing(WHAT)?);
        while let Some(row) = found.try_next().await.doing(WHAT)? {
            let record = record::decode(&row)?;
            if record.version != expected {
                return Err(damaged(format!("version {expected} of stream `{stream}`")));
            }
            expected = expected.next();
            page.records.push(record);
            last = Some(row);
        }
    }
    shared.count_read(page.records.len());
    let head = match &last {
        Some(row) if page.records.len() < limit => Some(Head {
            version: Version(expected.0 - 1),
            key: record::key(row)?,
        }),
        _ => {
            let row = connection
                .row(&streams::head(schema, stream))
                .await
                .doing(WHAT)?;
            row.map(|row| streams::head_of(&row)).transpose()?
        }
    };
    let head = head.unwrap_or_default();
    page.version = head.version.max(
        page.records
            .last()
            .map_or(Version::ZERO, |record| record.version),
    );
    // Whoever reads a stream is about to append to it: its version need not be looked up then.
    shared.heads().learn(stream.clone(), head);
    Ok(page)
}

/// Records with a correlation id behind `after`.
pub(crate) async fn correlated(
    connection: &Connection,
    shared: &Shared,
    id: &MessageId,
    after: Position,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    const WHAT: &str = "read correlated records";
    let call = shared
        .schema
        .call(&format!(
            "SELECT {COLUMNS} FROM factum.records r WHERE r.correlation_id = $1 AND r.position > $2 \
             ORDER BY r.position LIMIT $3"
        ))
        .with(Blob::id(id))
        .with(signed(after.0))
        .with(rows(limit));
    let found = connection.rows(&call).await.doing(WHAT)?;
    shared.count_read(found.len());
    found.iter().map(record::decode).collect()
}

/// Streams in the order of their names behind `after`.
pub(crate) async fn streams(
    connection: &Connection,
    schema: &Schema,
    category: Option<&Category>,
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<StreamSummary>, Error> {
    let (after_category, after_id) =
        after.map_or(("", ""), |after| (after.category().as_str(), after.id()));
    // The index is walked from one stream to the next, so that a page costs the same however long its streams are.
    let next = |of: &str| {
        format!(
            "(SELECT r.category, r.stream FROM factum.records r WHERE r.stream IS NOT NULL \
             AND ($4::text IS NULL OR r.category = $4) AND (r.category, r.stream) > ({of}) \
             ORDER BY r.category, r.stream LIMIT 1)"
        )
    };
    let call = schema
        .call(&format!(
            "WITH RECURSIVE names (category, stream, ordinal) AS ( \
               SELECT first.*, 1::bigint FROM {} first \
               UNION ALL \
               SELECT later.*, names.ordinal + 1 FROM names CROSS JOIN LATERAL {} later WHERE names.ordinal < $3 \
             ) \
             SELECT names.category, names.stream, last.version, last.position FROM names CROSS JOIN LATERAL \
               (SELECT version, position FROM factum.records r WHERE r.category = names.category \
                AND r.stream = names.stream ORDER BY version DESC LIMIT 1) last \
             WHERE $3 > 0 ORDER BY names.ordinal",
            next("$1, $2"),
            next("names.category, names.stream"),
        ))
        .with(after_category.to_string())
        .with(after_id.to_string())
        .with(rows(limit))
        .with(category.map(|category| category.as_str().to_string()));
    let found = connection.rows(&call).await.doing("list streams")?;
    let summary = |row: &Row| {
        Ok(StreamSummary {
            stream: record::stream_of(&column::<String>(row, 0)?, &column::<String>(row, 1)?)?,
            version: Version(column::<i64>(row, 2)?.cast_unsigned()),
            last: Position(column::<i64>(row, 3)?.cast_unsigned()),
        })
    };
    found.iter().map(summary).collect()
}
