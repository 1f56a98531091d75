//! A family of events as its author wrote it, and the mistakes that can be found before it is compiled.

use proc_macro2::Span;
use syn::{
    Data, DataEnum, DeriveInput, Error, Field, Fields, Ident, LitStr, Path, Result, Type, Variant,
    parse_quote, spanned::Spanned,
};

use crate::{
    attributes::{Attributes, Place, Stored, Version},
    container::Container,
    faults::Faults,
    name, versions,
};

/// What an enum or a struct with `#[derive(Event)]` declares.
pub(crate) struct Family {
    pub(crate) ident: Ident,
    /// The crate that has the `__private` items.
    pub(crate) krate: Path,
    pub(crate) topic: Option<LitStr>,
    pub(crate) types: Vec<StoredType>,
    /// Variants that stand for other families.
    pub(crate) families: Vec<(Ident, Type)>,
    pub(crate) upcasts: Vec<Upcast>,
}

/// One stored type.
pub(crate) struct StoredType {
    /// The variant; `None` when the type is a struct.
    pub(crate) variant: Option<Ident>,
    pub(crate) name: LitStr,
    pub(crate) version: Version,
    pub(crate) container: Container,
    pub(crate) shape: Shape,
}

/// Which fields there are.
pub(crate) enum Shape {
    Unit,
    Newtype(Box<Field>),
    Named(Vec<Field>),
}

/// A step from an older stored type.
pub(crate) struct Upcast {
    pub(crate) from: Stored,
    pub(crate) step: Step,
}

pub(crate) enum Step {
    One { into: Stored, with: Option<Path> },
    Many { into: Vec<Stored>, with: Path },
    Drop,
}

impl Family {
    /// Reads a type, and refuses what can't be a family of events.
    pub(crate) fn read(input: DeriveInput) -> Result<Self> {
        if let Some(parameter) = input.generics.params.first() {
            return Err(Error::new(
                parameter.span(),
                "an event can't be generic: what is stored has one name and one shape; write a type for each",
            ));
        }
        let family = match input.data {
            Data::Enum(data) => Self::of_enum(input.ident, &input.attrs, data)?,
            Data::Struct(data) => Self::of_struct(input.ident, &input.attrs, data.fields)?,
            Data::Union(data) => {
                return Err(Error::new(
                    data.union_token.span,
                    "an event is an enum or a struct",
                ));
            }
        };
        versions::check(&family)?;
        Ok(family)
    }

    fn of_enum(ident: Ident, attributes: &[syn::Attribute], data: DataEnum) -> Result<Self> {
        if data.variants.is_empty() {
            let example = name::suggestion(&ident.to_string(), "Created");
            return Err(Error::new(
                ident.span(),
                format!(
                    "a family of events has at least one: add a variant with \
                     `#[event(name = \"{example}\", version = 1)]`"
                ),
            ));
        }
        let mut faults = Faults::default();
        let read = faults
            .take(Attributes::read(attributes, Place::Enum))
            .unwrap_or_default();
        let rename_all = faults.take(Container::of_enum(attributes)).flatten();
        let mut family = Self::of_all(ident, read);
        for variant in data.variants {
            let added = family.add_variant(variant, rename_all.as_ref());
            faults.take(added);
        }
        faults.or(family)
    }

    fn of_struct(ident: Ident, attributes: &[syn::Attribute], fields: Fields) -> Result<Self> {
        let mut read = Attributes::read(attributes, Place::Struct)?;
        let container = Container::of_struct(attributes)?;
        let shape = Shape::read(&ident, fields)?;
        let (name, version) = named(&ident, &ident.to_string(), &mut read)?;
        let mut family = Self::of_all(
            ident,
            Attributes {
                splits: read.splits,
                drops: read.drops,
                topic: read.topic,
                krate: read.krate,
                ..Attributes::default()
            },
        );
        let read = Attributes {
            upcasts: read.upcasts,
            renames: read.renames,
            ..Attributes::default()
        };
        family.add(
            StoredType {
                variant: None,
                name,
                version,
                container,
                shape,
            },
            read,
        );
        Ok(family)
    }

    /// The family with what its attributes say about all of it.
    fn of_all(ident: Ident, read: Attributes) -> Self {
        let splits = read.splits.into_iter().map(|split| Upcast {
            from: split.from,
            step: Step::Many {
                into: split.into,
                with: split.with,
            },
        });
        let drops = read.drops.into_iter().map(|from| Upcast {
            from,
            step: Step::Drop,
        });
        Self {
            ident,
            krate: read.krate.unwrap_or_else(|| parse_quote!(::factum)),
            topic: read.topic,
            types: Vec::new(),
            families: Vec::new(),
            upcasts: splits.chain(drops).collect(),
        }
    }

    fn add_variant(&mut self, variant: Variant, rename_all: Option<&syn::Meta>) -> Result<()> {
        let Variant {
            ident,
            attrs,
            fields,
            ..
        } = variant;
        let mut read = Attributes::read(&attrs, Place::Variant)?;
        if let Some(span) = read.family {
            let ty = family_of(&ident, span, &read, fields)?;
            self.families.push((ident, ty));
            return Ok(());
        }
        let example = name::suggestion(&self.ident.to_string(), &ident.to_string());
        let (name, version) = named(&ident, &example, &mut read)?;
        let container = Container::of_variant(&attrs, rename_all)?;
        let shape = Shape::read(&ident, fields)?;
        self.add(
            StoredType {
                variant: Some(ident),
                name,
                version,
                container,
                shape,
            },
            read,
        );
        Ok(())
    }

    fn add(&mut self, stored: StoredType, read: Attributes) {
        for upcast in read.upcasts {
            let at = |version| Stored {
                name: stored.name.clone(),
                version,
            };
            let next = Version {
                number: upcast.from.number.saturating_add(1),
                span: upcast.from.span,
            };
            let step = Step::One {
                into: at(next),
                with: Some(upcast.with),
            };
            self.upcasts.push(Upcast {
                from: at(upcast.from),
                step,
            });
        }
        for rename in read.renames {
            let into = Stored {
                name: stored.name.clone(),
                version: rename.to,
            };
            self.upcasts.push(Upcast {
                from: rename.from,
                step: Step::One {
                    into,
                    with: rename.with,
                },
            });
        }
        self.types.push(stored);
    }
}

impl Shape {
    fn read(ident: &Ident, fields: Fields) -> Result<Self> {
        match fields {
            Fields::Unit => Ok(Self::Unit),
            Fields::Named(fields) => Ok(Self::Named(fields.named.into_iter().collect())),
            Fields::Unnamed(mut fields) if fields.unnamed.len() == 1 => {
                let field = fields.unnamed.pop().expect("there is one field");
                Ok(Self::Newtype(Box::new(field)))
            }
            Fields::Unnamed(fields) => Err(Error::new(
                fields.span(),
                format!(
                    "fields are stored by their names, which these don't have: \
                     write `{ident} {{ order_id: .., total: .. }}`"
                ),
            )),
        }
    }
}

fn named(ident: &Ident, example: &str, read: &mut Attributes) -> Result<(LitStr, Version)> {
    match (read.name.take(), read.version.take()) {
        (Some(name), Some(version)) => Ok((name, version)),
        (Some(name), None) => Err(Error::new(
            name.span(),
            format!(
                "`{}` has no version: write `#[event(name = \"{}\", version = 1)]`, and count it up whenever \
                 the shape changes",
                ident,
                name.value()
            ),
        )),
        (None, Some(version)) => Err(Error::new(
            ident.span(),
            format!(
                "`{ident}` has no stored name: write `#[event(name = \"{example}\", version = {})]`; it stays \
                 when the Rust name changes",
                version.number
            ),
        )),
        (None, None) => Err(Error::new(
            ident.span(),
            format!(
                "`{ident}` has no stored name and no version, by which it is still read in ten years: \
                 write `#[event(name = \"{example}\", version = 1)]`"
            ),
        )),
    }
}

fn family_of(ident: &Ident, span: Span, read: &Attributes, fields: Fields) -> Result<Type> {
    let says_more = read.name.is_some()
        || read.version.is_some()
        || !read.upcasts.is_empty()
        || !read.renames.is_empty();
    if says_more {
        return Err(Error::new(
            span,
            format!(
                "`{ident}` stands for a family, whose events have names, versions and upcasters of their own"
            ),
        ));
    }
    match Shape::read(ident, fields) {
        Ok(Shape::Newtype(field)) => Ok(field.ty),
        _ => Err(Error::new(
            ident.span(),
            format!("`{ident}` stands for a family of events: write `{ident}({ident}Event)`"),
        )),
    }
}
