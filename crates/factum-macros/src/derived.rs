//! The code that a family of events becomes: its constants and its `Event`.
//!
//! How data is written and read is left to the copies of the user's type in `copies.rs`.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Data, DeriveInput, Ident, LitStr, Path, Type, ext::IdentExt, parse_quote, spanned::Spanned,
};

use crate::{
    attributes::{Attributes, Place, Stored},
    copies::WRITTEN,
    family::{Family, Shape, Step, StoredType, Upcast},
    name,
};

/// Room for an event's JSON: most events fit, and those that don't grow it once or twice.
const ENCODED_BYTES_USUAL: usize = 256;

impl Family {
    /// The implementation of `Event`, and the constants.
    pub(crate) fn derived(&self) -> TokenStream {
        let (ident, krate) = (&self.ident, &self.krate);
        let constants = self.constants();
        let data = self.written_copy();
        let stored = self.types.iter().map(|stored| self.read_copy(stored));
        let topic = option(self.topic.as_ref());
        let types = self.types();
        let upcasts = self.upcasts();
        let stored_type = self.stored_type();
        let encode = self.encode();
        let decode = self.decode();
        // What two variants hold is refused by the catalog, in better words than those of a second `From`.
        let text = |held: &Type| quote!(#held).to_string();
        let texts: Vec<_> = self.families.iter().map(|(_, held)| text(held)).collect();
        let once = |held: &Type| texts.iter().filter(|other| **other == text(held)).count() == 1;
        let unique = self.families.iter().filter(|(_, held)| once(held));
        let conversions = unique.map(|(variant, held)| {
            quote_spanned! {variant.span()=>
                #[automatically_derived]
                impl ::core::convert::From<#held> for #ident {
                    fn from(event: #held) -> Self {
                        Self::#variant(event)
                    }
                }
            }
        });
        quote! {
            #constants
            #(#conversions)*

            const _: () = {
                use #krate::__private as __factum;

                #data
                #(#stored)*

                #[automatically_derived]
                impl __factum::Event for #ident {
                    const TOPIC: ::core::option::Option<&'static str> = #topic;

                    fn types() -> ::std::vec::Vec<__factum::EventType> {
                        #types
                    }

                    fn upcasts() -> ::std::vec::Vec<__factum::Upcast> {
                        #upcasts
                    }

                    fn stored_type(&self) -> (&'static str, u32) {
                        #stored_type
                    }

                    fn encode(
                        &self,
                    ) -> ::core::result::Result<::std::vec::Vec<u8>, __factum::serde_json::Error> {
                        #encode
                    }

                    fn decode(
                        name: &str,
                        data: &[u8],
                    ) -> ::core::option::Option<::core::result::Result<Self, __factum::serde_json::Error>> {
                        #decode
                    }
                }
            };
        }
    }

    fn constants(&self) -> TokenStream {
        let ident = &self.ident;
        let constants = self.types.iter().map(|stored| {
            let name = &stored.name;
            let (constant, text) = match &stored.variant {
                Some(variant) => (
                    name::constant(&variant.unraw().to_string()),
                    format!("The stored name of [`{variant}`](Self::{variant})."),
                ),
                None => ("NAME".into(), "The stored name of this event.".into()),
            };
            let place = stored.variant.as_ref().unwrap_or(ident);
            let constant = Ident::new(&constant, self::place(place));
            quote! {
                #[doc = #text]
                pub const #constant: &'static str = #name;
            }
        });
        quote! {
            impl #ident {
                #(#constants)*
            }
        }
    }

    fn types(&self) -> TokenStream {
        let topic = option(self.topic.as_ref());
        let types = self.types.iter().map(|stored| {
            let (name, version, data) = (&stored.name, stored.version.number, stored.copy());
            quote! {
                __factum::EventType {
                    name: #name,
                    version: #version,
                    topic: #topic,
                    shape: || __factum::shape::<#data>(#name),
                }
            }
        });
        self.with_families(&quote!(::std::vec![#(#types),*]), "types")
    }

    fn upcasts(&self) -> TokenStream {
        let upcasts = self.upcasts.iter().map(Upcast::derived);
        self.with_families(&quote!(::std::vec![#(#upcasts),*]), "upcasts")
    }

    /// A list of this family's own, and then those of its families.
    fn with_families(&self, own: &TokenStream, function: &str) -> TokenStream {
        if self.families.is_empty() {
            return own.clone();
        }
        let function = format_ident!("{function}");
        let families = self
            .families
            .iter()
            .map(|(_, ty)| quote_spanned!(place(ty)=> all.extend(<#ty as __factum::Event>::#function());));
        quote! {
            let mut all = #own;
            #(#families)*
            all
        }
    }

    fn stored_type(&self) -> TokenStream {
        let types = self.types.iter().map(|stored| {
            let pattern = stored.pattern();
            let (name, version) = (&stored.name, stored.version.number);
            quote!(#pattern => (#name, #version),)
        });
        let families = self.families.iter().map(|(variant, ty)| {
            let family = quote_spanned!(place(ty)=> <#ty as __factum::Event>::stored_type(event));
            quote!(Self::#variant(event) => #family,)
        });
        quote! {
            match self {
                #(#types)*
                #(#families)*
            }
        }
    }

    fn encode(&self) -> TokenStream {
        let families = self.families.iter().map(|(variant, ty)| {
            let family = quote_spanned!(place(ty)=> <#ty as __factum::Event>::encode(event));
            quote!(Self::#variant(event) => #family,)
        });
        let written = Ident::new(WRITTEN, Span::call_site());
        let room = Literal::usize_unsuffixed(ENCODED_BYTES_USUAL);
        let own = (!self.types.is_empty()).then(|| {
            let data = quote! {{
                let mut data = ::std::vec::Vec::with_capacity(#room);
                #written::serialize(self, &mut __factum::serde_json::Serializer::new(&mut data))?;
                ::core::result::Result::Ok(data)
            }};
            if self.families.is_empty() {
                data
            } else {
                quote!(_ => #data)
            }
        });
        if self.families.is_empty() {
            return quote!(#own);
        }
        quote! {
            match self {
                #(#families)*
                #own
            }
        }
    }

    fn decode(&self) -> TokenStream {
        let arms = self.types.iter().map(|stored| {
            let (name, data) = (&stored.name, stored.copy());
            let copy = stored.shape.moved(&stored.constructor(), &quote!(stored));
            // Without fields there is nothing to take out of it, but it must still be an object.
            let stored = if matches!(stored.shape, Shape::Unit) {
                quote!(_)
            } else {
                quote!(stored)
            };
            quote! {
                #name => ::core::option::Option::Some(
                    __factum::serde_json::from_slice::<#data>(data).map(|#stored| #copy),
                ),
            }
        });
        let families = self.families.iter().map(|(variant, ty)| {
            quote_spanned! {place(ty)=>
                if let ::core::option::Option::Some(event) = <#ty as __factum::Event>::decode(name, data) {
                    return ::core::option::Option::Some(event.map(Self::#variant));
                }
            }
        });
        quote! {
            #(#families)*
            match name {
                #(#arms)*
                _ => ::core::option::Option::None,
            }
        }
    }
}

/// The implementation of a type that was refused, so that its own mistakes are all that the compiler reports: not
/// also that it is no event, wherever it is used as one.
pub(crate) fn stand_in(input: &DeriveInput) -> TokenStream {
    let DeriveInput {
        ident,
        attrs,
        generics,
        data,
        ..
    } = input;
    if !generics.params.is_empty() || matches!(data, Data::Union(_)) {
        return TokenStream::new();
    }
    let place = if matches!(data, Data::Enum(_)) {
        Place::Enum
    } else {
        Place::Struct
    };
    let krate = Attributes::read(attrs, place)
        .ok()
        .and_then(|read| read.krate);
    let krate = krate.unwrap_or_else(|| parse_quote!(::factum));
    let names: Vec<String> = match data {
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| name::constant(&variant.ident.unraw().to_string()))
            .collect(),
        Data::Struct(_) | Data::Union(_) => vec!["NAME".into()],
    };
    let names = names.iter().map(|name| Ident::new(name, Span::call_site()));
    quote! {
        impl #ident {
            #(#[doc(hidden)] pub const #names: &'static str = "";)*
        }

        #[automatically_derived]
        impl #krate::__private::Event for #ident {
            const TOPIC: ::core::option::Option<&'static str> = ::core::option::Option::None;
            fn types() -> ::std::vec::Vec<#krate::__private::EventType> {
                ::std::vec::Vec::new()
            }
            fn upcasts() -> ::std::vec::Vec<#krate::__private::Upcast> {
                ::std::vec::Vec::new()
            }
            fn stored_type(&self) -> (&'static str, u32) {
                ("", 0)
            }
            fn encode(&self) -> ::core::result::Result<::std::vec::Vec<u8>, #krate::__private::serde_json::Error> {
                ::core::result::Result::Ok(::std::vec::Vec::new())
            }
            fn decode(
                _: &str,
                _: &[u8],
            ) -> ::core::option::Option<::core::result::Result<Self, #krate::__private::serde_json::Error>> {
                ::core::option::Option::None
            }
        }
    }
}

impl Upcast {
    fn derived(&self) -> TokenStream {
        let step = match &self.step {
            Step::One { into, with } => {
                let (name, version) = (&into.name, into.version.number);
                let with = with.as_ref().map_or_else(
                    || quote!(::core::result::Result::Ok),
                    |with| called(with, "OneUpcasted", "into_data"),
                );
                quote!(One { name: #name, version: #version, with: #with })
            }
            Step::Many { into, with } => {
                let into = into.iter().map(|Stored { name, version }| {
                    let version = version.number;
                    quote!((#name, #version))
                });
                let with = called(with, "ManyUpcasted", "into_parts");
                quote!(Many { into: &[#(#into),*], with: #with })
            }
            Step::Drop => quote!(Drop),
        };
        let (name, version) = (&self.from.name, self.from.version.number);
        quote! {
            __factum::Upcast { name: #name, version: #version, step: __factum::UpcastStep::#step }
        }
    }
}

/// The user's function between JSON values.
fn called(function: &Path, result: &str, made: &str) -> TokenStream {
    let (result, made) = (
        Ident::new(result, place(function)),
        Ident::new(made, place(function)),
    );
    quote_spanned! {place(function)=> |data| {
        use __factum::#result as _;
        __factum::Upcasted(#function(__factum::older(data)?)).#made()
    }}
}

impl StoredType {
    /// `Self::Created`, or `Self` of a struct.
    fn constructor(&self) -> TokenStream {
        self.variant
            .as_ref()
            .map_or_else(|| quote!(Self), |variant| quote!(Self::#variant))
    }

    fn pattern(&self) -> TokenStream {
        let constructor = self.constructor();
        quote!(#constructor { .. })
    }
}

/// Where the user wrote `tokens`, as a place of the derive: lints for handwritten code leave it alone.
fn place(tokens: &impl Spanned) -> Span {
    Span::call_site().located_at(tokens.span())
}

fn option(text: Option<&LitStr>) -> TokenStream {
    text.map_or_else(
        || quote!(::core::option::Option::None),
        |text| quote!(::core::option::Option::Some(#text)),
    )
}
