//! The reference, the schema and the code say the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

/// A key as the reference shows it: its table, itself, and the cell with its default.
type Key = (String, String, String);

const REQUIRED: &str = "*required*";

/// Where the default is a sentence.
const OTHER: &str = "other";

#[test]
fn the_schema_in_the_docs_is_current() {
    let given = format!("{}\n", serde_json::to_string_pretty(&Config::json_schema()).unwrap());
    let difference = difference(&root().join("docs/wsgate.schema.json"), &given);
    assert!(difference.is_empty(), "docs/wsgate.schema.json is out of date: run the test with {UPDATE}=1");
}

#[test]
fn the_reference_has_every_key_with_its_default_and_no_other() {
    let documented = documented_keys(&fs::read_to_string(root().join("docs/configuration.md")).unwrap());
    let known: BTreeSet<Key> = schema_keys().into_iter().collect();
    let missing: Vec<_> = known.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks {missing:#?}\nand has {unknown:#?}");
    assert!(unknown.is_empty(), "docs/configuration.md has {unknown:#?}");
    assert!(known.len() > 40, "the schema has only {} keys", known.len());
}

#[test]
fn the_example_in_the_reference_is_accepted_without_warning() {
    let reference = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let examples: Vec<_> = reference.split("```").filter_map(|block| block.strip_prefix("toml\n")).collect();
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!(read(example).unwrap_or_else(|errors| panic!("{errors}\n{example}")).1, []);
    }
}

#[test]
fn the_schema_names_the_defaults_that_the_code_has() {
    let plain = "[[listeners]]\naddress = '127.0.0.1:1'\n[upstreams.u]\nendpoints = ['ws://a']\n[filters.redact]\nallow.key_value = ['s']\n[stores.s]\n\
                 [[routes]]\npath = '/a'\nupstream = 'u'\n[[routes]]\npath = '/b'\nupstream = 'u'\nfilters_folder = 'chat.d'\n";
    let mut spelt: toml::Table = plain.parse().unwrap();
    let defaults = |table: &str| defaults_of(&schema_keys(), table);
    for name in ["server", "admin", "log"] {
        spelt.insert(name.to_owned(), defaults(name).into());
    }
    spelt["upstreams"]["u"].as_table_mut().unwrap().extend(defaults("upstreams"));
    spelt["filters"]["redact"].as_table_mut().unwrap().extend(defaults("filters"));
    spelt["filters"]["redact"]["allow"]["key_value"] = vec!["s"].into();
    spelt["stores"]["s"].as_table_mut().unwrap().extend(defaults("stores"));
    for (index, not_with) in [vec!["required_filters", "removal_grace"], vec!["filters"]].into_iter().enumerate() {
        let route = spelt["routes"][index].as_table_mut().unwrap();
        route.extend(defaults("routes").into_iter().filter(|(key, _)| !not_with.contains(&key.as_str())));
    }
    let spelt = toml::to_string(&spelt).unwrap();
    assert!(spelt.lines().count() > 50, "{spelt}");
    assert_eq!(read(&spelt).unwrap_or_else(|errors| panic!("{errors}\n{spelt}")).0, read(plain).unwrap().0);
}

#[test]
fn the_schema_names_the_defaults_of_optional_tables() {
    let route = |messages: &str, bytes: &str| {
        let limits = format!(
            "[routes.limits]\nmessages = {{ rate = '5/s', {messages} }}\nbytes = {{ rate = '1MiB/s', {bytes} }}\n"
        );
        let text =
            format!("[[listeners]]\naddress = '127.0.0.1:1'\n[[routes]]\npath = '/a'\ntarget = 'echo'\n{limits}");
        read(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}")).0
    };
    let keys = schema_keys();
    let defaults = |of: &str| {
        let named = keys.iter().filter_map(|(_, key, default)| Some((key.strip_prefix(of)?, default)));
        let named = named.filter(|(_, default)| *default != OTHER && *default != REQUIRED);
        named.map(|(key, default)| format!("{key} = {default}")).collect::<Vec<_>>().join(", ")
    };
    let asked = |more: &str| {
        let service = format!("auth_request = {{ url = 'https://a', {more} }}\n");
        let text =
            format!("[[listeners]]\naddress = '127.0.0.1:1'\n[[routes]]\npath = '/a'\ntarget = 'echo'\n{service}");
        read(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}")).0
    };
    let service = defaults("auth_request.");
    assert!(service.matches('=').count() == 4, "{service}");
    assert_eq!(asked(&service), asked(""));
    let spread = |table: &str, more: &str| {
        let text = format!(
            "[[listeners]]\naddress = '127.0.0.1:1'\n[upstreams.u]\nendpoints = ['ws://a']\n{table} = {{ {more} }}\n\
             [[routes]]\npath = '/a'\nupstream = 'u'\n"
        );
        read(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}")).0
    };
    for (table, count) in [("affinity_cookie", 2), ("health_check", 4)] {
        let spelt = defaults(&format!("{table}."));
        assert_eq!(spelt.matches('=').count(), count, "{spelt}");
        assert_eq!(spread(table, &spelt), spread(table, ""));
    }
    let (messages, bytes) = (defaults("limits.messages."), defaults("limits.bytes."));
    assert!(messages.matches('=').count() == 3 && bytes.matches('=').count() == 3, "{messages}; {bytes}");
    assert_eq!(route(&messages, &bytes), route("", ""));
}

#[test]
fn every_key_refuses_a_value_of_another_type_under_its_name() {
    let full = fs::read_to_string(root().join("tests/configs/valid/full.toml")).unwrap();
    let full: toml::Table = full.parse().unwrap();
    for (table, key, _) in schema_keys() {
        let (name, index) = match table.as_str() {
            "listeners" | "routes" => (format!("{table}[0]"), ".0"),
            "upstreams" => (format!("{table}.chat"), ".chat"),
            "filters" => (format!("{table}.redact"), ".redact"),
            "jwt" => (format!("{table}.main"), ".main"),
            "stores" => (format!("{table}.sessions"), ".sessions"),
            _ => (table.clone(), ""),
        };
        let mut wrong = full.clone();
        // No key takes a fraction; of the endpoints' tables there is one in second place.
        let path = format!("{table}{index}.{}", key.replace("[]", ".1"));
        let (outer, last) = path.rsplit_once('.').unwrap();
        let outer = outer.split('.').fold(wrong.get_mut(&table), |value, step| match value? {
            value if step == table => Some(value),
            toml::Value::Array(items) => items.get_mut(step.parse::<usize>().unwrap()),
            value => value.get_mut(step),
        });
        let Some(toml::Value::Table(outer)) = outer else { panic!("full.toml has no table for {path}") };
        outer.insert(last.to_owned(), toml::Value::Float(1.5));
        let errors = read(&toml::to_string(&wrong).unwrap()).unwrap_err();
        let expected = format!("{name}.{}", key.replace("[]", "[1]"));
        let error = errors.errors().iter().find(|error| error.key.as_ref() == Some(&expected));
        let message = &error.unwrap_or_else(|| panic!("no error for {expected}:\n{errors}")).message;
        assert!(message.starts_with("1.5 is not a"), "{expected}: {message}");
    }
}

/// The rows of the reference's tables below a heading such as ``## `[server]` ``.
fn documented_keys(reference: &str) -> BTreeSet<Key> {
    let mut table = None;
    let mut keys = BTreeSet::new();
    for line in reference.lines() {
        if line.starts_with('#') {
            let heading = line.strip_prefix("## `[").and_then(|line| line.strip_suffix("]`"));
            table = heading.map(|heading| heading.trim_matches(['[', ']']).replace(".<name>", ""));
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let (Some(table), ["", key, default, meaning, ""]) = (&table, &cells[..])
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            let is_value = default.starts_with('`') && default.ends_with('`');
            let default = if is_value || *default == REQUIRED { default } else { OTHER };
            assert!(meaning.len() > 10, "{key} has no meaning");
            keys.insert((table.clone(), key.to_owned(), default.trim_matches('`').to_owned()));
        }
    }
    keys
}

fn schema_keys() -> Vec<Key> {
    let schema = Config::json_schema();
    let mut keys = Vec::new();
    for (table, schema) in schema["properties"].as_object().unwrap() {
        // A list of tables, tables by name, or one table.
        let inner = [&schema["items"], &schema["additionalProperties"], schema].into_iter();
        let inner = inner.filter(|schema| schema["properties"].is_object());
        collect(table, "", inner.clone().next().unwrap(), &mut keys);
    }
    keys
}

fn collect(table: &str, prefix: &str, schema: &Value, keys: &mut Vec<Key>) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let key = format!("{prefix}{name}");
        if property["properties"].is_object() {
            collect(table, &format!("{key}."), property, keys);
            continue;
        }
        let default = match &property["default"] {
            Value::Null if required.contains(&Value::from(name.as_str())) => REQUIRED.to_owned(),
            Value::Null => OTHER.to_owned(),
            default => default.to_string(),
        };
        keys.push((table.to_owned(), key.clone(), default));
        for choice in property["items"]["anyOf"].as_array().into_iter().flatten() {
            if choice["properties"].is_object() {
                collect(table, &format!("{key}[]."), choice, keys);
            }
        }
    }
}

/// `{ key = default, … }`; what the reference shows is TOML.
fn defaults_of(keys: &[Key], table: &str) -> toml::Table {
    let mut tables: BTreeMap<&str, toml::Table> = BTreeMap::new();
    for (_, key, default) in keys.iter().filter(|(owner, _, _)| owner == table) {
        if default == REQUIRED || default == OTHER {
            continue;
        }
        let (outer, key) = key.split_once('.').unwrap_or(("", key));
        // Keys of a table that is not there by default say what they are where it is.
        let of_it = |other: &str| !outer.is_empty() && other.starts_with(&format!("{outer}."));
        let optional = keys.iter().any(|(owner, other, default)| owner == table && of_it(other) && default == REQUIRED)
            || ["affinity_cookie", "health_check"].contains(&outer);
        if key.contains('.') || (optional && outer != "limits") {
            continue;
        }
        let parsed: toml::Table = format!("value = {default}").parse().unwrap();
        tables.entry(outer).or_default().insert(key.to_owned(), parsed["value"].clone());
    }
    let mut defaults = tables.remove("").unwrap_or_default();
    defaults.extend(tables.into_iter().map(|(name, table)| (name.to_owned(), table.into())));
    defaults
}
