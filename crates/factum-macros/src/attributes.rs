//! The words inside `#[event(..)]`: reads them, and says what would be right when they are not.

use proc_macro2::Span;
use syn::{
    Attribute, Error, Lit, LitInt, LitStr, Path, Result, Token, bracketed,
    ext::IdentExt,
    meta::ParseNestedMeta,
    parenthesized,
    parse::{Parse, ParseBuffer, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::name;

/// Where an attribute stands, which decides what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Enum,
    Variant,
    Struct,
}

/// Each key with the places that know it.
const KEYS: &[(&str, &[Place])] = &[
    ("name", &[Place::Variant, Place::Struct]),
    ("version", &[Place::Variant, Place::Struct]),
    ("upcast", &[Place::Variant, Place::Struct]),
    ("renamed_from", &[Place::Variant, Place::Struct]),
    ("family", &[Place::Variant]),
    ("topic", &[Place::Enum, Place::Struct]),
    ("split", &[Place::Enum, Place::Struct]),
    ("drop", &[Place::Enum, Place::Struct]),
    ("crate", &[Place::Enum, Place::Struct]),
];

/// All that the `#[event(..)]` of one place say.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<Version>,
    pub(crate) upcasts: Vec<Upcast>,
    pub(crate) renames: Vec<Rename>,
    pub(crate) family: Option<Span>,
    pub(crate) topic: Option<LitStr>,
    pub(crate) splits: Vec<Split>,
    pub(crate) drops: Vec<Stored>,
    pub(crate) krate: Option<Path>,
}

/// A schema version, from 1.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) span: Span,
}

/// A stored type: `"OrderPlaced", 1`, in parentheses where it is one of several.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: LitStr,
    pub(crate) version: Version,
}

/// `upcast(1 => with_currency)`: from a version to the next one.
pub(crate) struct Upcast {
    pub(crate) from: Version,
    pub(crate) with: Path,
}

/// `renamed_from("OrderPlaced", 1 => 2, with = from_placed)`: from another name to this one.
pub(crate) struct Rename {
    pub(crate) from: Stored,
    pub(crate) to: Version,
    pub(crate) with: Option<Path>,
}

/// `split("OrderPlacedAndPaid", 1 => [("OrderCreated", 1), ("OrderPaid", 1)], with = split)`.
pub(crate) struct Split {
    pub(crate) from: Stored,
    pub(crate) into: Vec<Stored>,
    pub(crate) with: Path,
}

impl Attributes {
    /// Reads the `#[event(..)]` among `attributes`.
    pub(crate) fn read(attributes: &[Attribute], place: Place) -> Result<Self> {
        let mut read = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("event") {
                attribute.parse_nested_meta(|meta| read.key(&meta, place))?;
            }
        }
        Ok(read)
    }

    fn key(&mut self, meta: &ParseNestedMeta<'_>, place: Place) -> Result<()> {
        let span = meta.path.span();
        let key = meta
            .path
            .get_ident()
            .map(|ident| ident.unraw().to_string())
            .unwrap_or_default();
        let Some((_, places)) = KEYS.iter().find(|(known, _)| *known == key) else {
            return Err(Error::new(span, unknown(place)));
        };
        if !places.contains(&place) {
            return Err(Error::new(span, misplaced(&key, place)));
        }
        match key.as_str() {
            "name" => {
                let name = string(meta, "name = \"OrderCreated\"")?;
                name::check("stored name", &name)?;
                once(&mut self.name, name, span, &key)
            }
            "version" => {
                let example = "version = 1";
                let version = meta
                    .value()
                    .and_then(Version::parse)
                    .map_err(|error| hint(&error, example))?;
                once(&mut self.version, version, span, &key)
            }
            "topic" => {
                let topic = string(meta, "topic = \"orders\"")?;
                name::check("topic", &topic)?;
                once(&mut self.topic, topic, span, &key)
            }
            "crate" => {
                let example = "crate = \"factum_core\"";
                let path = string(meta, example)?
                    .parse()
                    .map_err(|error| hint(&error, example))?;
                once(&mut self.krate, path, span, &key)
            }
            "family" => once(&mut self.family, span, span, &key),
            "upcast" => {
                let upcasts = list(meta, "upcast(1 => with_currency)", |input| {
                    Ok(Punctuated::<Upcast, Token![,]>::parse_terminated(input)?
                        .into_iter()
                        .collect())
                })?;
                let upcasts: Vec<Upcast> = upcasts;
                if upcasts.is_empty() {
                    return Err(Error::new(
                        span,
                        "upcast from which version? write `upcast(1 => with_currency)`",
                    ));
                }
                self.upcasts.extend(upcasts);
                Ok(())
            }
            "renamed_from" => {
                let example = "renamed_from(\"OrderPlaced\", 1 => 1)`, or with a function \
                               `renamed_from(\"OrderPlaced\", 1 => 2, with = from_placed)";
                self.renames.push(list(meta, example, Rename::parse)?);
                Ok(())
            }
            "split" => {
                let example = "split(\"OrderPlacedAndPaid\", 1 => [(\"OrderCreated\", 1), (\"OrderPaid\", 1)], \
                               with = split_payment)";
                self.splits.push(list(meta, example, Split::parse)?);
                Ok(())
            }
            _ => {
                self.drops
                    .push(list(meta, "drop(\"OrderNoted\", 1)", |input| {
                        let stored = Stored::listed(input)?;
                        end(input)?;
                        Ok(stored)
                    })?);
                Ok(())
            }
        }
    }
}

impl Parse for Version {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let wrong = |span| Error::new(span, "a version is a whole number from 1");
        let literal: Lit = input.parse().map_err(|error| wrong(error.span()))?;
        let span = literal.span();
        let number = match literal {
            Lit::Int(literal) => number(&literal).ok_or_else(|| wrong(span))?,
            _ => return Err(wrong(span)),
        };
        Ok(Self { number, span })
    }
}

fn number(literal: &LitInt) -> Option<u32> {
    literal.base10_parse().ok().filter(|number| *number > 0)
}

impl Stored {
    /// `"OrderPlaced", 1`.
    fn listed(input: ParseStream<'_>) -> Result<Self> {
        let name = stored_name(input)?;
        input.parse::<Token![,]>()?;
        Ok(Self {
            name,
            version: input.parse()?,
        })
    }
}

impl Parse for Stored {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let content;
        parenthesized!(content in input);
        let stored = Self::listed(&content)?;
        end(&content)?;
        Ok(stored)
    }
}

impl Parse for Upcast {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let from = input.parse()?;
        input.parse::<Token![=>]>()?;
        Ok(Self {
            from,
            with: function(input)?,
        })
    }
}

impl Parse for Rename {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let from = Stored::listed(input)?;
        input.parse::<Token![=>]>()?;
        let to = input.parse()?;
        let with = if is_last(input) {
            None
        } else {
            Some(with(input)?)
        };
        end(input)?;
        Ok(Self { from, to, with })
    }
}

impl Parse for Split {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let from = Stored::listed(input)?;
        input.parse::<Token![=>]>()?;
        let content;
        bracketed!(content in input);
        let into = Punctuated::<Stored, Token![,]>::parse_terminated(&content)?
            .into_iter()
            .collect();
        let with = with(input)?;
        end(input)?;
        Ok(Self { from, into, with })
    }
}

fn stored_name(input: ParseStream<'_>) -> Result<LitStr> {
    let name = input.parse()?;
    name::check("stored name", &name)?;
    Ok(name)
}

/// `, with = function`.
fn with(input: ParseStream<'_>) -> Result<Path> {
    input.parse::<Token![,]>()?;
    let key = input.call(syn::Ident::parse_any)?;
    if key != "with" {
        return Err(Error::new(key.span(), "expected `with`"));
    }
    input.parse::<Token![=]>()?;
    function(input)
}

/// The path to a function. An expression would be longer than an attribute should be, and couldn't be tested alone.
fn function(input: ParseStream<'_>) -> Result<Path> {
    input
        .parse()
        .map_err(|error| Error::new(error.span(), "expected the name of a function"))
}

/// Whether nothing follows but perhaps a comma.
fn is_last(input: ParseStream<'_>) -> bool {
    input.is_empty() || (input.peek(Token![,]) && input.fork().parse::<LastComma>().is_ok())
}

/// Takes a trailing comma, and refuses anything else.
fn end(input: ParseStream<'_>) -> Result<()> {
    input.parse::<Option<Token![,]>>()?;
    if input.is_empty() {
        Ok(())
    } else {
        Err(input.error("expected nothing more"))
    }
}

struct LastComma;

impl Parse for LastComma {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        end(input).map(|()| Self)
    }
}

/// What stands in the parentheses after a key.
fn list<T>(
    meta: &ParseNestedMeta<'_>,
    example: &str,
    parse: impl FnOnce(ParseStream<'_>) -> Result<T>,
) -> Result<T> {
    let read = || {
        let content;
        parenthesized!(content in meta.input);
        parse(&content)
    };
    read().map_err(|error| hint(&error, example))
}

fn string(meta: &ParseNestedMeta<'_>, example: &str) -> Result<LitStr> {
    meta.value()
        .and_then(ParseBuffer::parse)
        .map_err(|error| hint(&error, example))
}

fn hint(error: &Error, example: &str) -> Error {
    Error::new(error.span(), format!("{error}; write `{example}`"))
}

fn once<T>(slot: &mut Option<T>, value: T, span: Span, key: &str) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(Error::new(span, format!("`{key}` is said twice")));
    }
    Ok(())
}

fn unknown(place: Place) -> String {
    let (whose, example) = match place {
        Place::Enum => ("an enum of events", "topic = \"orders\""),
        Place::Variant => ("a variant", "name = \"OrderCreated\", version = 1"),
        Place::Struct => (
            "an event",
            "name = \"OrderCreated\", version = 1, topic = \"orders\"",
        ),
    };
    let keys = KEYS.iter().filter(|(_, places)| places.contains(&place));
    let keys: Vec<String> = keys.map(|(key, _)| format!("`{key}`")).collect();
    format!(
        "unknown key: {whose} has {}; for example `#[event({example})]`",
        keys.join(", ")
    )
}

fn misplaced(key: &str, place: Place) -> String {
    match place {
        Place::Variant => format!("`{key}` belongs on the enum: it holds for all of its events"),
        Place::Enum => format!("`{key}` belongs on a variant: each is a stored type of its own"),
        Place::Struct => format!("`{key}` belongs on a variant of an enum"),
    }
}
