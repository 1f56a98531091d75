//! Hidden copies of the user's type, through which data is written, read and described.
//!
//! serde's and schemars' own derives run on them, so every attribute means what it always means, and the user's
//! type need not be serialisable itself.
//!
//! - Writing uses one copy of the whole type, as serde's *remote* derive: fields are borrowed where they are, and
//!   functions such as those of `with` and `skip_serializing_if` get the very types that they expect. A copy that
//!   holds references would not call `fn is_default<T: Default + PartialEq>(value: &T) -> bool`.
//! - Reading uses a copy of each variant as a struct, which is also what gives the stored type its shape.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Field, Ident, LitStr};

use crate::{
    container::Default,
    family::{Family, Shape, StoredType},
};

/// The name of the copy that is written.
pub(crate) const WRITTEN: &str = "__Written";

/// What a copy is for, which decides the attributes that go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Serialising, where schemars' attributes would be unknown.
    Write,
    /// Deserialising, and the shape as the inner type has it: with a description of its own a newtype would be the
    /// inner type at one remove.
    Read,
    /// Deserialising, and the shape with all that is said about it.
    ReadDescribed,
}

impl Family {
    /// The copy that is written.
    pub(crate) fn written_copy(&self) -> TokenStream {
        if self.types.is_empty() {
            return TokenStream::new();
        }
        let written = Ident::new(WRITTEN, Span::call_site());
        let serde = self.private_path("serde");
        let remote = LitStr::new(&self.ident.to_string(), self.ident.span());
        if let [
            StoredType {
                variant: None,
                container,
                shape,
                ..
            },
        ] = &*self.types
        {
            let rename_all = container.rename_all.iter();
            let transparent = container.transparent.then(|| quote!(, transparent));
            let body = shape.of_struct(Purpose::Write);
            return quote! {
                #[derive(__factum::serde::Serialize)]
                #[serde(crate = #serde, remote = #remote #(, #rename_all)* #transparent)]
                struct #written #body
            };
        }
        let variants = self.types.iter().map(|stored| {
            let variant = &stored.variant;
            let rename_all = stored.container.rename_all.iter();
            let body = stored.shape.of_variant(Purpose::Write);
            quote! {
                #(#[serde(#rename_all)])*
                #variant #body,
            }
        });
        let families = self.families.iter().map(|(variant, ty)| {
            quote! {
                #[serde(skip_serializing)]
                #variant(#ty),
            }
        });
        quote! {
            #[derive(__factum::serde::Serialize)]
            #[serde(crate = #serde, remote = #remote, untagged)]
            enum #written {
                #(#variants)*
                #(#families)*
            }
        }
    }

    /// The copy of one stored type that is read, and has its shape.
    pub(crate) fn read_copy(&self, stored: &StoredType) -> TokenStream {
        let (serde, schemars) = (self.private_path("serde"), self.private_path("schemars"));
        let copy = stored.copy();
        let container = &stored.container;
        let is_newtype = matches!(stored.shape, Shape::Newtype(_));
        let (docs, purpose) = if is_newtype {
            (&[][..], Purpose::Read)
        } else {
            (&*container.docs, Purpose::ReadDescribed)
        };
        let schemars_says = &container.schemars;
        let rename_all = container.rename_all.iter();
        let transparent = (container.transparent || is_newtype).then(|| quote!(, transparent));
        let default = container.default.as_ref().map(|_| quote!(, default));
        // The copy's own name is nobody's to read.
        let expecting = (!is_newtype).then(|| quote!(, expecting = "an object"));
        let body = stored.shape.of_struct(purpose);
        let defaults = container
            .default
            .as_ref()
            .map(|default| self.defaults(stored, default));
        quote! {
            #[derive(__factum::serde::Deserialize, __factum::schemars::JsonSchema)]
            #[serde(crate = #serde #(, #rename_all)* #transparent #default #expecting)]
            #[schemars(crate = #schemars)]
            #(#schemars_says)*
            #(#docs)*
            struct #copy #body

            #defaults
        }
    }

    /// What missing fields of a struct with `#[serde(default)]` are.
    fn defaults(&self, stored: &StoredType, default: &Default) -> TokenStream {
        let ident = &self.ident;
        let copy = stored.copy();
        let whole = match default {
            Default::Trait => quote!(<#ident as ::core::default::Default>::default()),
            Default::Function(function) => quote!(#function()),
        };
        let moved = stored.shape.moved(&quote!(#copy), &quote!(whole));
        quote! {
            #[automatically_derived]
            impl ::core::default::Default for #copy {
                fn default() -> Self {
                    let whole: #ident = #whole;
                    #moved
                }
            }
        }
    }

    /// The path to one of the private items, as the text that serde's and schemars' attributes want.
    fn private_path(&self, item: &str) -> LitStr {
        let krate = self.krate.to_token_stream().to_string().replace(' ', "");
        LitStr::new(&format!("{krate}::__private::{item}"), Span::call_site())
    }
}

impl StoredType {
    /// The name of the copy that is read.
    pub(crate) fn copy(&self) -> Ident {
        match &self.variant {
            Some(variant) => format_ident!("__Read{}", variant, span = Span::call_site()),
            None => format_ident!("__Read", span = Span::call_site()),
        }
    }
}

impl Shape {
    fn of_struct(&self, purpose: Purpose) -> TokenStream {
        let body = self.of_variant(purpose);
        match self {
            Self::Newtype(_) => quote!(#body;),
            Self::Unit | Self::Named(_) => body,
        }
    }

    fn of_variant(&self, purpose: Purpose) -> TokenStream {
        match self {
            // Not a unit, whose data would be `null`: a pattern with braces fits a unit variant too.
            Self::Unit => quote!({}),
            Self::Newtype(field) => {
                let field = copied(field, purpose);
                quote!((#field))
            }
            Self::Named(fields) => {
                let fields = fields.iter().map(|field| copied(field, purpose));
                quote!({ #(#fields,)* })
            }
        }
    }

    /// A value of `constructor` with the fields of `from`.
    pub(crate) fn moved(&self, constructor: &TokenStream, from: &TokenStream) -> TokenStream {
        match self {
            Self::Unit => quote!(#constructor {}),
            Self::Newtype(_) => quote!(#constructor(#from.0)),
            Self::Named(fields) => {
                let fields = fields.iter().map(|field| {
                    let name = &field.ident;
                    quote!(#name: #from.#name)
                });
                quote!(#constructor { #(#fields),* })
            }
        }
    }
}

/// A field of a copy, without its visibility, and with those of its attributes that are for `purpose`.
fn copied(field: &Field, purpose: Purpose) -> TokenStream {
    let is_kept = |attribute: &&Attribute| {
        let is = |name| attribute.path().is_ident(name);
        match purpose {
            Purpose::Write => is("serde"),
            Purpose::Read => is("serde") || is("schemars"),
            Purpose::ReadDescribed => is("serde") || is("schemars") || is("doc"),
        }
    };
    let attributes = field.attrs.iter().filter(is_kept);
    let Field { ident, ty, .. } = field;
    let colon = ident.as_ref().map(|_| quote!(:));
    quote!(#(#attributes)* #ident #colon #ty)
}
