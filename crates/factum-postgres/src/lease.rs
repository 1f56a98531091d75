//! Leases: which process does what only one may do.

use factum_core::{Error, Holder, Lease, Role};
use tokio_postgres::Row;

use crate::{call::Call, error::column, number::signed, schema::Schema, text::escape};

/// Asks for the lease of a role.
pub(crate) fn read(schema: &Schema, role: &Role) -> Call {
    schema
        .call("SELECT holder, beat FROM factum.leases WHERE role = $1")
        .with(escape(&role.to_string()).into_owned())
}

/// The lease that [`read`] asked for: one that nobody ever had has no row.
pub(crate) fn decode(row: Option<&Row>) -> Result<Lease, Error> {
    let Some(row) = row else {
        return Ok(Lease::default());
    };
    Ok(Lease {
        holder: column::<Option<uuid::Uuid>>(row, 0)?.map(Holder),
        beat: column::<i64>(row, 1)?.cast_unsigned(),
    })
}

/// Gives a lease, if its beat is still `seen`: there is a row in the answer then.
pub(crate) fn set(schema: &Schema, role: &Role, seen: u64, holder: Option<Holder>) -> Call {
    // Of several that make the first row, the key lets one win; of several that change it, the row's lock.
    schema
        .call(
            "WITH changed AS (UPDATE factum.leases SET holder = $3, beat = beat + 1 \
               WHERE role = $1 AND beat = $2 RETURNING 1), \
             made AS (INSERT INTO factum.leases SELECT $1, $3, 1 WHERE $2 = 0 ON CONFLICT DO NOTHING RETURNING 1) \
             SELECT 1 FROM changed UNION ALL SELECT 1 FROM made",
        )
        .with(escape(&role.to_string()).into_owned())
        .with(signed(seen))
        .with(holder.map(|holder| holder.0))
}
