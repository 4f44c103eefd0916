//! The reference of recipe keys, from the types that a recipe is read into and their comments.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, ExprLit, Field, Fields, GenericArgument, Item, ItemEnum, ItemMacro, Lit,
    LitStr, Meta, PathArguments, Token, Type, Variant,
};

use crate::files;

/// Where the types of a recipe are; of two types of one name the first counts.
const FOLDERS: [&str; 5] = [
    "crates/meanflow-train/src/config",
    "crates/meanflow-core/src",
    "crates/meanflow-cfg/src",
    "crates/meanflow-torch/src/networks",
    "crates/meanflow-torch/src",
];

/// Types by name.
type Types = BTreeMap<String, Item>;

/// The whole page.
pub(super) fn page(root: &Path) -> Result<String> {
    let mut types = Types::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut types)?;
    }
    let Some(Item::Struct(recipe)) = types.get("TrainConfig") else {
        bail!("no struct TrainConfig");
    };
    let mut page = String::from(
        "# Every key of a recipe\n\nWritten by `cargo xtask docs` from the types that a recipe is read into. [Recipes](recipes.md) explains them.\n",
    );
    for field in &recipe.fields {
        let name = key(field);
        let left_out = if may_be_left_out(field) {
            " It may be left out."
        } else {
            ""
        };
        write!(page, "\n## {name}\n\n{}{left_out}\n", comment(&field.attrs))?;
        describe(&mut page, &types, &name, inner(&field.ty))?;
    }
    Ok(page)
}

/// Adds every struct and enum below a folder that is read from a recipe.
fn collect(folder: &Path, types: &mut Types) -> Result<()> {
    for path in files::below(folder, |_| true)? {
        if !files::ends(&path, "rs") {
            continue;
        }
        let file = syn::parse_file(&files::read(&path)?)
            .with_context(|| format!("cannot parse {}", path.display()))?;
        for item in file.items {
            let name = match &item {
                Item::Struct(item) => item.ident.to_string(),
                Item::Enum(item) => item.ident.to_string(),
                Item::Macro(item) if item.mac.path.is_ident("bounded") => first_word(item),
                _ => continue,
            };
            types.entry(name).or_insert(item);
        }
    }
    Ok(())
}

/// The type that a macro of bounded numbers declares.
fn first_word(item: &ItemMacro) -> String {
    item.mac
        .tokens
        .clone()
        .into_iter()
        .next()
        .map(|word| word.to_string())
        .unwrap_or_default()
}

/// The range that such a macro states: its second text.
fn range(item: &ItemMacro) -> String {
    let words = item.mac.tokens.clone().into_iter();
    let texts = words.filter_map(|word| syn::parse2::<LitStr>(word.into()).ok());
    let text = texts.map(|text| text.value()).nth(1).unwrap_or_default();
    text.trim_start_matches("a ").to_owned()
}

/// The keys of a type below the key `at`.
fn describe(page: &mut String, types: &Types, at: &str, of: &Type) -> Result<()> {
    match with_keys(types, of) {
        Some(Item::Struct(item)) => {
            let all = serde(&item.attrs, "default").is_some();
            table(page, types, at, &item.fields, all)
        }
        Some(Item::Enum(item)) => variants(page, types, at, item),
        _ => Ok(()),
    }
}

/// What a type, or what it is a list or an option of, is written as, where it has keys or variants to be told of.
fn with_keys<'a>(types: &'a Types, of: &Type) -> Option<&'a Item> {
    written(types, &named(inner(of))).filter(|item| match item {
        Item::Struct(item) => matches!(item.fields, Fields::Named(_)) && !is_leaf(&item.attrs),
        Item::Enum(item) => !is_leaf(&item.attrs) && !is_plain(item),
        _ => false,
    })
}

/// The type of this name as it is written: one that is checked afterwards is read into another.
fn written<'a>(types: &'a Types, name: &str) -> Option<&'a Item> {
    let item = types.get(name)?;
    let attributes = match item {
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        _ => return Some(item),
    };
    let raw = serde(attributes, "try_from").and_then(|from| types.get(&from));
    // The checked one has the comments where its fields are the same.
    match (raw, item) {
        (Some(raw), Item::Struct(item)) if !has_comments(&item.fields) => Some(raw),
        _ => Some(item),
    }
}

fn has_comments(fields: &Fields) -> bool {
    fields.iter().all(|field| !comment(&field.attrs).is_empty())
}

/// Whether a value is one of some words.
fn is_plain(item: &ItemEnum) -> bool {
    let are_words = item
        .variants
        .iter()
        .all(|variant| matches!(variant.fields, Fields::Unit));
    are_words && serde(&item.attrs, "tag").is_none()
}

/// What each variant is and has; neighbours that have the same keys share a table.
fn variants(page: &mut String, types: &Types, at: &str, item: &ItemEnum) -> Result<()> {
    let (tag, rule) = (serde(&item.attrs, "tag"), serde(&item.attrs, "rename_all"));
    let all: Vec<&Variant> = item.variants.iter().collect();
    for (place, variant) in all.iter().enumerate() {
        let name = renamed(&variant.ident.to_string(), rule.as_deref());
        let said = comment(&variant.attrs);
        match (&tag, &variant.fields) {
            (Some(tag), _) => writeln!(page, "\n**`{tag} = \"{name}\"`** {said}")?,
            (None, Fields::Unit) => writeln!(page, "\n**`\"{name}\"`** {said}")?,
            (None, _) => writeln!(page, "\n**`{{ {name} = … }}`** {said}")?,
        }
        match &variant.fields {
            Fields::Named(_) => table(page, types, at, &variant.fields, false)?,
            Fields::Unnamed(fields) => {
                let of = &fields.unnamed[0].ty;
                let shares = |next: &&Variant| matches!(&next.fields, Fields::Unnamed(next) if named(&next.unnamed[0].ty) == named(of));
                if tag.is_none() && with_keys(types, of).is_none() {
                    writeln!(page, "\nThe value: {}.", value(types, of))?;
                } else if !all.get(place + 1).is_some_and(shares) {
                    describe(page, types, at, of)?;
                }
            }
            Fields::Unit => {}
        }
    }
    Ok(())
}

/// A table of fields, then what is below those that have keys of their own. Where all have defaults, `all` of them may be left out.
fn table(page: &mut String, types: &Types, at: &str, fields: &Fields, all: bool) -> Result<()> {
    if !fields.is_empty() {
        writeln!(page, "\n| key | value | |\n|---|---|---|")?;
    }
    for field in fields {
        let left_out = if all || may_be_left_out(field) {
            " May be left out."
        } else {
            ""
        };
        let (value, said) = (value(types, &field.ty), comment(&field.attrs));
        let words = words(types, &field.ty);
        writeln!(
            page,
            "| `{}` | {value} | {said}{words}{left_out} |",
            key(field)
        )?;
    }
    for field in fields {
        let below = format!("{at}.{}", key(field));
        if with_keys(types, &field.ty).is_some() {
            writeln!(page, "\n### {below}")?;
            describe(page, types, &below, inner(&field.ty))?;
        }
    }
    Ok(())
}

/// What each of the words means that a value can be.
fn words(types: &Types, of: &Type) -> String {
    let Some(Item::Enum(item)) = types
        .get(&named(inner(of)))
        .filter(|_| with_keys(types, of).is_none())
    else {
        return String::new();
    };
    let rule = serde(&item.attrs, "rename_all");
    let word = |variant: &Variant| {
        let name = renamed(&variant.ident.to_string(), rule.as_deref());
        format!(" `\"{name}\"`: {}", comment(&variant.attrs))
    };
    if is_leaf(&item.attrs) {
        String::new()
    } else {
        item.variants.iter().map(word).collect()
    }
}

/// What is written for a value of a type.
fn value(types: &Types, of: &Type) -> String {
    if let Type::Array(array) = of {
        return format!("list of {}", value(types, &array.elem));
    }
    let name = named(of);
    match name.as_str() {
        "Option" | "Box" => value(types, inner(of)),
        "Vec" => format!("list of {}", value(types, inner(of))),
        "bool" => "`true` or `false`".to_owned(),
        "f64" | "f32" => "number".to_owned(),
        "String" => "text".to_owned(),
        "PathBuf" => "path".to_owned(),
        "Value" | "Table" | "Map" => "table".to_owned(),
        "NonZeroUsize" | "NonZeroU64" | "NonZeroU32" => "integer from 1".to_owned(),
        _ if name.starts_with(['u', 'i']) => "integer".to_owned(),
        _ if with_keys(types, of).is_some() => "below".to_owned(),
        _ => match types.get(&name) {
            Some(Item::Macro(item)) => range(item),
            Some(Item::Enum(item)) if is_plain(item) && !is_leaf(&item.attrs) => {
                "one of these words".to_owned()
            }
            Some(Item::Struct(item)) => first_sentence(&comment(&item.attrs)),
            Some(Item::Enum(item)) => first_sentence(&comment(&item.attrs)),
            _ => name,
        },
    }
}

/// The last name of a type's path.
fn named(of: &Type) -> String {
    let Type::Path(path) = of else {
        return String::new();
    };
    let last = path.path.segments.last();
    last.map(|last| last.ident.to_string()).unwrap_or_default()
}

/// What an option, a list or a box is of; otherwise the type itself.
fn inner(of: &Type) -> &Type {
    match of {
        Type::Array(array) => inner(&array.elem),
        Type::Path(path) if ["Option", "Vec", "Box"].contains(&named(of).as_str()) => {
            let last = path.path.segments.last().map(|last| &last.arguments);
            let Some(PathArguments::AngleBracketed(arguments)) = last else {
                return of;
            };
            match arguments.args.first() {
                Some(GenericArgument::Type(of)) => inner(of),
                _ => of,
            }
        }
        _ => of,
    }
}

fn key(field: &Field) -> String {
    let name = field.ident.as_ref().map(ToString::to_string);
    serde(&field.attrs, "rename").unwrap_or_else(|| name.unwrap_or_default())
}

fn may_be_left_out(field: &Field) -> bool {
    serde(&field.attrs, "default").is_some() || named(&field.ty) == "Option"
}

/// Whether a type is read as a number or a text, whatever it is made of.
fn is_leaf(attributes: &[Attribute]) -> bool {
    let as_text = serde(attributes, "try_from").is_some_and(|from| !from.starts_with("Raw"));
    as_text || serde(attributes, "transparent").is_some() || !is_read(attributes)
}

fn is_read(attributes: &[Attribute]) -> bool {
    of_name(attributes, "derive").any(|derive| match &derive.meta {
        Meta::List(list) => list.tokens.to_string().contains("Deserialize"),
        _ => false,
    })
}

/// The value of a serde attribute; empty for one without.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    of_name(attributes, "serde")
        .filter_map(|list| {
            list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .ok()
        })
        .flatten()
        .find(|meta| meta.path().is_ident(name))
        .map(|meta| match meta {
            Meta::NameValue(pair) => literal(&pair.value),
            _ => String::new(),
        })
}

fn of_name<'a>(attributes: &'a [Attribute], name: &str) -> impl Iterator<Item = &'a Attribute> {
    attributes
        .iter()
        .filter(move |attribute| attribute.path().is_ident(name))
}

fn literal(value: &Expr) -> String {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => text.value(),
        _ => String::new(),
    }
}

/// The comment of an item in one line, without the part on errors.
fn comment(attributes: &[Attribute]) -> String {
    let lines = of_name(attributes, "doc").filter_map(|doc| match &doc.meta {
        Meta::NameValue(pair) => Some(literal(&pair.value).trim().to_owned()),
        _ => None,
    });
    let text: Vec<String> = lines.take_while(|line| !line.starts_with('#')).collect();
    // Links of the documentation of the code lead nowhere here.
    text.join(" ")
        .trim()
        .replace("[`", "`")
        .replace("`]", "`")
        .replace('|', "\\|")
}

fn first_sentence(text: &str) -> String {
    text.split_once(". ")
        .map_or(text, |(first, _)| first)
        .trim_end_matches('.')
        .to_owned()
}

/// A name by a rule of serde.
fn renamed(name: &str, rule: Option<&str>) -> String {
    let separator = match rule {
        Some("kebab-case") => "-",
        Some("snake_case") => "_",
        Some("lowercase") => "",
        _ => return name.to_owned(),
    };
    let mut out = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            out.push_str(separator);
        }
        out.extend(letter.to_lowercase());
    }
    out
}
