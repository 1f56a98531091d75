//! Shapes: what a JSON schema says of a value, and what is wrong with a value by it, field by field.
//!
//! The description of an API is made of schemas; read as shapes they check requests, so that what is described is what
//! is taken. All that is wrong with a value is found at once, in words for whoever wrote the value: nothing of how it
//! is read here shows in them. Only the part of JSON Schema that descriptions here are made of is known; a schema with
//! anything else is no shape, which a test of its API finds.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use regex_lite::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::FieldError;

/// How many fields are named at most: an order of a hundred lines with everything wrong.
pub(super) const ERRORS_MAX: usize = 500;
/// What the value as a whole is called.
const WHOLE: &str = "body";
/// The keyword for what a value must be, in words, where the others don't say it to people.
const MUST: &str = "x-must";

/// What a JSON schema says of a value.
///
/// ```
/// use factum_admin::web::Shape;
/// use serde_json::{json, value::RawValue};
/// let schema = json!({
///     "type": "object",
///     "properties": { "qty": { "type": "integer", "minimum": 1, "maximum": 9 }, "sku": { "type": "string" } },
///     "required": ["qty", "sku"],
/// });
/// let value = RawValue::from_string(r#"{"qty":0}"#.into()).unwrap();
/// let wrong = Shape::of(&schema, &schema).wrong(&value);
/// let wrong: Vec<_> = wrong.iter().map(|one| format!("{} {}", one.field, one.detail)).collect();
/// assert_eq!(wrong, ["qty must be a whole number from 1 to 9", "sku is missing"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// What kinds of values fit; all when there are none.
    kinds: Vec<Kind>,
    /// The values that fit; all when there are none.
    values: Vec<Value>,
    least: Option<i128>,
    most: Option<i128>,
    /// The least and the greatest number of characters of a text.
    characters: (Option<usize>, Option<usize>),
    /// The least and the greatest number of items of a list.
    count: (Option<usize>, Option<usize>),
    pattern: Option<Regex>,
    must: Option<String>,
    members: BTreeMap<String, Self>,
    required: Vec<String>,
    others: Others,
    items: Option<Box<Self>>,
    /// Groups of shapes: of each group, one has to fit.
    choices: Vec<Vec<Self>>,
}

/// What members an object may have besides those that its shape names.
#[derive(Clone, Debug, Default)]
enum Others {
    #[default]
    Any,
    None,
    Of(Box<Shape>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Truth,
    Integer,
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "null" => Self::Null,
            "boolean" => Self::Truth,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::Text,
            "array" => Self::List,
            "object" => Self::Object,
            other => panic!("`{other}` is no type of JSON Schema"),
        }
    }

    fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Truth,
            Some(b'"') => Self::Text,
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object,
            _ if value.get().parse::<i128>().is_ok() => Self::Integer,
            _ => Self::Number,
        }
    }

    fn takes(self, given: Self) -> bool {
        self == given || (self == Self::Number && given == Self::Integer)
    }
}

impl Shape {
    /// The shape of `schema`, whose references lead into `document`.
    ///
    /// # Panics
    ///
    /// When it says what no shape knows: schemas are part of a program, and its tests read them all.
    pub fn of(schema: &Value, document: &Value) -> Self {
        let mut shape = Self::default();
        let keywords = match schema {
            Value::Bool(true) => return shape,
            Value::Object(keywords) => keywords,
            other => panic!("`{other}` is no schema of a value"),
        };
        if let Some(reference) = keywords.get("$ref") {
            let target = reference
                .as_str()
                .and_then(|reference| document.pointer(reference.strip_prefix('#')?));
            let target = target.unwrap_or_else(|| panic!("{reference} leads nowhere"));
            shape = Self::of(target, document);
        }
        for (keyword, said) in keywords {
            shape.read(keyword, said, document);
        }
        shape
    }

    fn read(&mut self, keyword: &str, said: &Value, document: &Value) {
        let size = || said.as_u64().and_then(|size| usize::try_from(size).ok());
        let bound = || {
            let whole = said.as_i64().map(i128::from);
            whole.or_else(|| said.as_u64().map(i128::from))
        };
        let shapes = || {
            let alternatives = said.as_array().into_iter().flatten();
            alternatives
                .map(|schema| Self::of(schema, document))
                .collect::<Vec<_>>()
        };
        let texts = |said: &Value| {
            let texts = said.as_array().into_iter().flatten();
            texts
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        match keyword {
            "type" => {
                let one = said.as_str().map(Kind::parse);
                let several = texts(said).iter().map(|name| Kind::parse(name)).collect();
                self.kinds = one.map_or(several, |one| vec![one]);
            }
            "const" => self.values = vec![said.clone()],
            "enum" => self.values = said.as_array().cloned().unwrap_or_default(),
            "minimum" => self.least = bound(),
            "maximum" => self.most = bound(),
            "minLength" => self.characters.0 = size(),
            "maxLength" => self.characters.1 = size(),
            "minItems" => self.count.0 = size(),
            "maxItems" => self.count.1 = size(),
            "pattern" => {
                let pattern = said.as_str().unwrap_or_default();
                self.pattern = Some(Regex::new(pattern).expect("patterns are part of the program"));
            }
            MUST => self.must = said.as_str().map(str::to_owned),
            "properties" => {
                let members = said.as_object().into_iter().flatten();
                self.members.extend(
                    members.map(|(name, schema)| (name.clone(), Self::of(schema, document))),
                );
            }
            "required" => self.required = texts(said),
            "additionalProperties" => {
                self.others = match said {
                    Value::Bool(true) => Others::Any,
                    Value::Bool(false) => Others::None,
                    schema => Others::Of(Box::new(Self::of(schema, document))),
                };
            }
            "items" => self.items = Some(Box::new(Self::of(said, document))),
            "anyOf" | "oneOf" => self.choices.push(shapes()),
            "allOf" => self
                .choices
                .extend(shapes().into_iter().map(|one| vec![one])),
            // These say nothing that could be wrong.
            "$ref" | "$defs" | "title" | "description" | "default" | "format" | "examples" => {}
            other => panic!("the keyword `{other}` of JSON Schema is not known here"),
        }
    }

    /// All that is wrong with `value`, as far as anybody would read it; nothing when it fits.
    pub fn wrong(&self, value: &RawValue) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        self.check(value, "", &mut wrong);
        wrong
    }

    /// Adds what is wrong with `value`, which is called `field`.
    pub(super) fn check(&self, value: &RawValue, field: &str, wrong: &mut Vec<FieldError>) {
        if wrong.len() >= ERRORS_MAX {
            return;
        }
        let kind = Kind::of(value);
        if !self.fits_alone(value, kind) {
            wrong.push(error(field, self.wanted()));
            return;
        }
        match kind {
            Kind::Object => self.check_members(value, field, wrong),
            Kind::List => {
                if let Some(items) = &self.items {
                    let given: Vec<&RawValue> =
                        serde_json::from_str(value.get()).unwrap_or_default();
                    for (index, item) in given.into_iter().enumerate() {
                        items.check(item, &format!("{field}[{index}]"), wrong);
                    }
                }
            }
            _ => {}
        }
        for choice in &self.choices {
            self.check_choice(choice, value, field, wrong);
        }
    }

    /// Whether the value itself fits, whatever its members and items are.
    fn fits_alone(&self, value: &RawValue, kind: Kind) -> bool {
        let within = |size: usize, (least, most): (Option<usize>, Option<usize>)| {
            least.is_none_or(|least| size >= least) && most.is_none_or(|most| size <= most)
        };
        if !self.kinds.is_empty() && !self.kinds.iter().any(|one| one.takes(kind)) {
            return false;
        }
        if !self.values.is_empty() {
            let read = serde_json::from_str::<Value>(value.get());
            if !read.is_ok_and(|value| self.values.contains(&value)) {
                return false;
            }
        }
        match kind {
            Kind::Integer => value.get().parse::<i128>().is_ok_and(|number| {
                self.least.is_none_or(|least| number >= least)
                    && self.most.is_none_or(|most| number <= most)
            }),
            Kind::Text => serde_json::from_str::<String>(value.get()).is_ok_and(|text| {
                within(text.chars().count(), self.characters)
                    && self.pattern.as_ref().is_none_or(|it| it.is_match(&text))
            }),
            Kind::List => {
                let bounded = self.count.0.is_some() || self.count.1.is_some();
                let count =
                    || serde_json::from_str(value.get()).map(|all: Vec<&RawValue>| all.len());
                !bounded || count().is_ok_and(|count| within(count, self.count))
            }
            _ => true,
        }
    }

    fn check_members(&self, value: &RawValue, field: &str, wrong: &mut Vec<FieldError>) {
        let named = !self.members.is_empty() || !self.required.is_empty();
        if !named && matches!(self.others, Others::Any) {
            return;
        }
        let Ok(Members(members)) = serde_json::from_str(value.get()) else {
            wrong.push(error(field, "has names that can't be read".into()));
            return;
        };
        let mut seen = BTreeSet::new();
        for (name, value) in &members {
            if wrong.len() >= ERRORS_MAX {
                return;
            }
            let place = member(field, name);
            if !seen.insert(name.as_str()) {
                wrong.push(error(&place, "is given twice".into()));
                continue;
            }
            match (self.members.get(name), &self.others) {
                (Some(shape), _) => shape.check(value, &place, wrong),
                (None, Others::Any) => {}
                (None, Others::Of(shape)) => shape.check(value, &place, wrong),
                (None, Others::None) => {
                    let known: Vec<_> = self.members.keys().map(String::as_str).collect();
                    let known = known.join("`, `");
                    wrong.push(error(
                        &place,
                        format!("is not known here (known: `{known}`)"),
                    ));
                }
            }
        }
        for name in &self.required {
            if !seen.contains(name.as_str()) {
                wrong.push(error(&member(field, name), "is missing".into()));
            }
        }
    }

    /// Adds what is wrong when none of `choice` fits.
    fn check_choice(
        &self,
        choice: &[Self],
        value: &RawValue,
        field: &str,
        wrong: &mut Vec<FieldError>,
    ) {
        let mut tried = choice.iter().map(|shape| {
            let mut wrong = Vec::new();
            shape.check(value, field, &mut wrong);
            wrong
        });
        if tried.any(|wrong| wrong.is_empty()) {
            return;
        }
        let only_names = |shape: &Self| shape.kinds.is_empty() && !shape.required.is_empty();
        if choice.iter().all(only_names) {
            let names: Vec<_> = choice.iter().flat_map(|shape| &shape.required).collect();
            let all: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let what = format!("is missing: one of {} is needed", all.join(" and "));
            wrong.push(error(&member(field, names[0]), what));
            return;
        }
        let mut real = choice.iter().filter(|shape| shape.kinds != [Kind::Null]);
        match (real.next(), real.next()) {
            (Some(only), None) => only.check(value, field, wrong),
            _ => wrong.push(error(field, self.wanted())),
        }
    }

    /// Whether texts fit, as far as kinds go: what stands in a path, query or header is taken as one then.
    pub(super) fn takes_texts(&self) -> bool {
        let of_texts = self.kinds.is_empty() || self.kinds.contains(&Kind::Text);
        of_texts && self.choices.iter().flatten().all(Self::takes_texts)
    }

    /// What a value must be, in words.
    pub(super) fn wanted(&self) -> String {
        if let Some(must) = &self.must {
            return format!("must {must}");
        }
        let values: Vec<_> = self.all_values().iter().map(|value| shown(value)).collect();
        if let Some((last, others)) = values.split_last() {
            return match others {
                [] => format!("must be {last}"),
                others => format!("must be {} or {last}", others.join(", ")),
            };
        }
        let sized = |what: &str, size: (Option<usize>, Option<usize>), of: &str| match size {
            (None, None) => format!("must be {what}"),
            (least, Some(most)) => {
                format!("must be {what} of {} to {most} {of}", least.unwrap_or(0))
            }
            (Some(least), None) => format!("must be {what} of at least {least} {of}"),
        };
        let kinds: Vec<_> = self.all_kinds();
        match kinds.iter().find(|kind| **kind != Kind::Null) {
            None if kinds.is_empty() => "is not right".into(),
            None => "must be null".into(),
            Some(Kind::Null | Kind::Truth) => "must be `true` or `false`".into(),
            Some(Kind::Number) => "must be a number".into(),
            Some(Kind::Object) => "must be a JSON object".into(),
            Some(Kind::Text) => sized("a text", self.characters, "characters"),
            Some(Kind::List) => sized("a list", self.count, "items"),
            Some(Kind::Integer) => match (self.least, self.most) {
                (Some(least), Some(most)) if most < i128::from(u64::MAX) => {
                    format!("must be a whole number from {least} to {most}")
                }
                (Some(least), _) => format!("must be a whole number, {least} or more"),
                (None, _) => "must be a whole number".into(),
            },
        }
    }

    /// The values that fit, its own and those of its choices; empty when there is no list of them.
    fn all_values(&self) -> Vec<&Value> {
        let chosen = self.choices.iter().flatten().flat_map(Self::all_values);
        self.values.iter().chain(chosen).collect()
    }

    fn all_kinds(&self) -> Vec<Kind> {
        let chosen = self.choices.iter().flatten().flat_map(Self::all_kinds);
        self.kinds.iter().copied().chain(chosen).collect()
    }
}

fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("`{text}`"),
        None => format!("`{value}`"),
    }
}

fn error(field: &str, detail: String) -> FieldError {
    let field = if field.is_empty() { WHOLE } else { field };
    FieldError {
        field: field.to_owned(),
        detail,
    }
}

fn member(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}

/// The members of an object as they were written: in their order, those of one name, too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Read)
    }
}
