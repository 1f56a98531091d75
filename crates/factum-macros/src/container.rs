//! The serde and schemars attributes of the user's type: which of them describe stored data, and go along.
//!
//! Those of a field all do. Of those of a variant or a struct only some do: the others name variants and tag
//! enums, which concerns a `Serialize` that the user derives for other purposes and no stored data.

use proc_macro2::TokenTree;
use quote::quote;
use syn::{
    Attribute, Error, LitStr, Meta, Path, Result, Token, parse_quote, punctuated::Punctuated,
    spanned::Spanned,
};

/// What the container of one stored type says about its data.
#[derive(Default)]
pub(crate) struct Container {
    /// `rename_all = ..` or `rename_all(..)`.
    pub(crate) rename_all: Option<Meta>,
    /// A struct whose data is that of its only field.
    pub(crate) transparent: bool,
    /// Where missing fields come from.
    pub(crate) default: Option<Default>,
    /// All of schemars.
    pub(crate) schemars: Vec<Attribute>,
    /// The documentation.
    pub(crate) docs: Vec<Attribute>,
}

/// `default` or `default = ".."` on a struct.
pub(crate) enum Default {
    Trait,
    Function(Path),
}

impl Container {
    /// What an enum says about all of its variants' fields.
    pub(crate) fn of_enum(attributes: &[Attribute]) -> Result<Option<Meta>> {
        let mut rename_all = None;
        for meta in metas(attributes, "serde")? {
            if meta.path().is_ident("rename_all_fields") {
                rename_all = Some(renamed(meta));
            } else if meta.path().is_ident("deny_unknown_fields") {
                return Err(unknown_fields_stay(&meta));
            }
        }
        Ok(rename_all)
    }

    /// What a variant says about its fields.
    pub(crate) fn of_variant(attributes: &[Attribute], of_enum: Option<&Meta>) -> Result<Self> {
        let mut container = Self::described(attributes);
        container.rename_all = of_enum.cloned();
        for meta in metas(attributes, "serde")? {
            match key(&meta).as_str() {
                "rename_all" => container.rename_all = Some(meta),
                "with" | "serialize_with" | "deserialize_with" => {
                    return Err(Error::new(
                        meta.path().span(),
                        "an event's data can't be replaced as a whole; put this on its fields",
                    ));
                }
                _ => {}
            }
        }
        Ok(container)
    }

    /// What a struct says about its fields.
    pub(crate) fn of_struct(attributes: &[Attribute]) -> Result<Self> {
        let mut container = Self::described(attributes);
        for meta in metas(attributes, "serde")? {
            match key(&meta).as_str() {
                "rename_all" => container.rename_all = Some(meta),
                "transparent" => container.transparent = true,
                "default" => {
                    container.default = Some(match &meta {
                        Meta::NameValue(pair) => {
                            let value = &pair.value;
                            let function: LitStr = syn::parse2(quote!(#value))?;
                            Default::Function(function.parse()?)
                        }
                        _ => Default::Trait,
                    });
                }
                "deny_unknown_fields" => return Err(unknown_fields_stay(&meta)),
                "tag" | "from" | "try_from" | "into" | "remote" => {
                    return Err(Error::new(
                        meta.path().span(),
                        "an event's data are its fields; put what is stored into a type of its own, \
                         and make the event a newtype of it",
                    ));
                }
                _ => {}
            }
        }
        Ok(container)
    }

    fn described(attributes: &[Attribute]) -> Self {
        let named = |name| {
            attributes
                .iter()
                .filter(move |attribute| attribute.path().is_ident(name))
                .cloned()
        };
        Self {
            schemars: named("schemars").filter(says_more_than_its_crate).collect(),
            docs: named("doc").collect(),
            ..Self::default()
        }
    }
}

/// Where schemars is found is ours to say for the copy. Values may be any expressions, so tokens are all we look at.
fn says_more_than_its_crate(attribute: &Attribute) -> bool {
    let tokens = attribute
        .meta
        .require_list()
        .map(|list| list.tokens.clone())
        .unwrap_or_default();
    !matches!(tokens.into_iter().next(), Some(TokenTree::Ident(first)) if first == "crate")
}

fn metas(attributes: &[Attribute], name: &str) -> Result<Vec<Meta>> {
    let mut metas = Vec::new();
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(name))
    {
        metas.extend(attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?);
    }
    Ok(metas)
}

fn key(meta: &Meta) -> String {
    meta.path()
        .get_ident()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn renamed(mut meta: Meta) -> Meta {
    let path = parse_quote!(rename_all);
    match &mut meta {
        Meta::Path(old) => *old = path,
        Meta::List(list) => list.path = path,
        Meta::NameValue(pair) => pair.path = path,
    }
    meta
}

fn unknown_fields_stay(meta: &Meta) -> Error {
    Error::new(
        meta.path().span(),
        "a reader of events ignores fields that it doesn't know, so that a newer writer can add one; \
         remove `deny_unknown_fields`",
    )
}
