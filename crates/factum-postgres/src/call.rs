//! A statement with its values: what is sent to the server, and what the types of its parameters are.

use std::{borrow::Cow, error::Error as StdError};

use bytes::{Bytes, BytesMut};
use factum_core::MessageId;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// A value of a known type of PostgreSQL's.
pub(crate) trait Param: ToSql + Send + Sync + 'static {
    const TYPE: Type;
}

/// A value that arrays are made of.
pub(crate) trait Element: Param {
    const ARRAY: Type;
}

macro_rules! param {
    ($($rust:ty: $one:ident, $many:ident;)*) => {
        $(
            impl Param for $rust {
                const TYPE: Type = Type::$one;
            }
            impl Element for $rust {
                const ARRAY: Type = Type::$many;
            }
        )*
    };
}

param! {
    bool: BOOL, BOOL_ARRAY;
    i16: INT2, INT2_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    String: TEXT, TEXT_ARRAY;
    Uuid: UUID, UUID_ARRAY;
    Blob: BYTEA, BYTEA_ARRAY;
}

impl<T: Element> Param for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Element> Element for Option<T> {
    const ARRAY: Type = T::ARRAY;
}

impl<T: Element> Param for Vec<T> {
    const TYPE: Type = T::ARRAY;
}

/// Bytes, shared with whoever made them.
#[derive(Clone, Debug)]
pub(crate) struct Blob(pub(crate) Bytes);

impl Blob {
    /// A message id: the first byte says whether a UUID's 16 bytes follow, or a text.
    pub(crate) fn id(id: &MessageId) -> Self {
        let mut bytes = Vec::with_capacity(17);
        if let Some(uuid) = id.as_uuid() {
            bytes.push(ID_UUID);
            bytes.extend_from_slice(uuid.as_bytes());
        } else {
            bytes.push(ID_TEXT);
            bytes.extend_from_slice(id.to_string().as_bytes());
        }
        Self(bytes.into())
    }
}

const ID_UUID: u8 = 1;
const ID_TEXT: u8 = 2;

/// The message id that [`Blob::id`] made; `None` when it is none.
pub(crate) fn id_of(bytes: &[u8]) -> Option<MessageId> {
    match bytes.split_first()? {
        (&ID_UUID, uuid) => Uuid::from_slice(uuid).ok().map(MessageId::from),
        (&ID_TEXT, text) => str::from_utf8(text).ok().map(MessageId::from),
        _ => None,
    }
}

impl ToSql for Blob {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::BYTEA
    }

    to_sql_checked!();
}

/// A statement with its values.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    /// Whether the statement is worth remembering: it comes again, with other values.
    pub(crate) again: bool,
}

impl Call {
    /// A statement that comes again with other values.
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
            again: true,
        }
    }

    /// A statement that is planned for its values each time.
    pub(crate) fn once(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            again: false,
            ..Self::new(sql)
        }
    }

    /// With the next value.
    #[must_use]
    pub(crate) fn with<T: Param>(mut self, value: T) -> Self {
        self.put(value);
        self
    }

    /// Adds the next value, and says its number.
    pub(crate) fn put<T: Param>(&mut self, value: T) -> usize {
        self.values.push((Box::new(value), T::TYPE));
        self.values.len()
    }

    /// Adds the next value, whose type the server finds out.
    pub(crate) fn put_untyped(&mut self, value: impl ToSql + Sync + Send + 'static) {
        self.values.push((Box::new(value), Type::UNKNOWN));
    }
}
