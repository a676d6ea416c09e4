//! What a GraphQL document asks for: which operation, how deep, at what cost.

use std::collections::HashMap;

use apollo_parser::{
    Parser,
    cst::{self, CstNode, Definition, OperationDefinition, Selection, SelectionSet},
};
use serde_json::{Map, Value};

use crate::config::{Cost, Kind};

/// Most selections within each other, those of fragments counted where they are spread: what is walked through
/// recursively has to fit on the guest's stack.
pub(crate) const MAX_NESTING: usize = 128;

/// Most tokens of a document, white space among them: what is parsed has to fit into the time of a call.
const MAX_TOKENS: usize = 10_000;

/// What an operation would take, at most: fields that the server leaves out (`@skip`) or merges are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) depth: u32,
    pub(crate) cost: u64,
    pub(crate) introspects: bool,
}

impl Measure {
    /// What stands beside it: the deeper of both, and the cost of both.
    fn and(self, other: Self) -> Self {
        Self {
            depth: self.depth.max(other.depth),
            cost: self.cost.saturating_add(other.cost),
            introspects: self.introspects || other.introspects,
        }
    }
}

/// The operation that would run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) name: Option<String>,
    pub(crate) measure: Measure,
}

/// Why a document is none that could run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Syntax(String),
    /// It is too large or nested too deeply to be looked at.
    TooLarge,
    /// No operation, no operation of the name that was given, or several and no name.
    WhichOperation,
    UnknownFragment(String),
    /// A fragment that spreads itself.
    Cycle(String),
}

/// Reads a document and measures the operation that would run.
pub(crate) fn read(
    query: &str,
    name: Option<&str>,
    variables: &Map<String, Value>,
    cost: &Cost,
) -> Result<Operation, Unreadable> {
    let tree = Parser::new(query).recursion_limit(MAX_NESTING).token_limit(MAX_TOKENS).parse();
    if let Some(error) = tree.errors().next() {
        return Err(match error.is_limit() {
            true => Unreadable::TooLarge,
            false => Unreadable::Syntax(error.message().to_owned()),
        });
    }
    let mut operations = Vec::new();
    let mut fragments = HashMap::new();
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(fragment) => {
                let name = fragment.fragment_name().and_then(|name| text(name.name()));
                if let (Some(name), Some(selections)) = (name, fragment.selection_set()) {
                    fragments.insert(name, Fragment::Unread(selections));
                }
            }
            _ => return Err(Unreadable::Syntax("only operations and fragments can be run".to_owned())),
        }
    }
    let operation = chosen(operations, name)?;
    let (Some(kind), Some(selections)) = (kind(&operation), operation.selection_set()) else {
        return Err(Unreadable::WhichOperation);
    };
    let variables = with_defaults(&operation, variables);
    let measure = Walk { fragments, variables, cost }.selections(&selections, 1)?;
    Ok(Operation { kind, name: text(operation.name()), measure })
}

fn text(name: Option<cst::Name>) -> Option<String> {
    name.map(|name| name.text().to_string())
}

fn chosen(operations: Vec<OperationDefinition>, name: Option<&str>) -> Result<OperationDefinition, Unreadable> {
    let alone = operations.len() == 1;
    let mut fitting = operations.into_iter().filter(|operation| match name {
        Some(name) => text(operation.name()).as_deref() == Some(name),
        None => alone,
    });
    match (fitting.next(), fitting.next()) {
        (Some(operation), None) => Ok(operation),
        (Some(_) | None, _) => Err(Unreadable::WhichOperation),
    }
}

fn kind(operation: &OperationDefinition) -> Option<Kind> {
    let Some(of) = operation.operation_type() else { return Some(Kind::Query) };
    match (of.query_token(), of.mutation_token(), of.subscription_token()) {
        (Some(_), None, None) => Some(Kind::Query),
        (None, Some(_), None) => Some(Kind::Mutation),
        (None, None, Some(_)) => Some(Kind::Subscription),
        _ => None,
    }
}

/// The variables that the client gave, and the defaults of those that it did not.
fn with_defaults(operation: &OperationDefinition, given: &Map<String, Value>) -> Map<String, Value> {
    let mut variables = given.clone();
    let definitions = operation.variable_definitions();
    for definition in definitions.iter().flat_map(cst::VariableDefinitions::variable_definitions) {
        let name = definition.variable().and_then(|variable| text(variable.name()));
        let default = definition.default_value().and_then(|default| default.value());
        if let (Some(name), Some(default)) = (name, default) {
            variables.entry(name).or_insert_with(|| json(&default, &Map::new(), 0));
        }
    }
    variables
}

/// Numbers and what leads to them; all else is no number of items.
fn json(value: &cst::Value, variables: &Map<String, Value>, depth: usize) -> Value {
    match value {
        cst::Value::Variable(variable) => {
            text(variable.name()).and_then(|name| variables.get(&name).cloned()).unwrap_or_default()
        }
        cst::Value::IntValue(number) => {
            let digits = number.syntax().text().to_string();
            // One that no integer holds is more than any limit.
            digits.trim().parse::<i64>().map_or_else(|_| i64::MAX.into(), Value::from)
        }
        cst::Value::ObjectValue(object) if depth < MAX_NESTING => {
            let field =
                |field: cst::ObjectField| Some((text(field.name())?, json(&field.value()?, variables, depth + 1)));
            Value::Object(object.object_fields().filter_map(field).collect())
        }
        _ => Value::Null,
    }
}

enum Fragment {
    Unread(SelectionSet),
    Reading,
    Read(Measure),
}

struct Walk<'a> {
    fragments: HashMap<String, Fragment>,
    variables: Map<String, Value>,
    cost: &'a Cost,
}

impl Walk<'_> {
    fn selections(&mut self, set: &SelectionSet, nesting: usize) -> Result<Measure, Unreadable> {
        if nesting > MAX_NESTING {
            return Err(Unreadable::TooLarge);
        }
        let mut measure = Measure::default();
        for selection in set.selections() {
            let of = match selection {
                Selection::Field(field) => self.field(&field, nesting)?,
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name().and_then(|name| text(name.name())).unwrap_or_default();
                    self.fragment(name, nesting)?
                }
                Selection::InlineFragment(fragment) => match fragment.selection_set() {
                    Some(set) => self.selections(&set, nesting + 1)?,
                    None => Measure::default(),
                },
            };
            measure = measure.and(of);
        }
        Ok(measure)
    }

    /// Measured once, however often it is spread: else a few lines would keep this busy for ever.
    fn fragment(&mut self, name: String, nesting: usize) -> Result<Measure, Unreadable> {
        let set = match self.fragments.get_mut(&name) {
            None => return Err(Unreadable::UnknownFragment(name)),
            Some(Fragment::Reading) => return Err(Unreadable::Cycle(name)),
            Some(Fragment::Read(measure)) => return Ok(*measure),
            Some(unread) => match std::mem::replace(unread, Fragment::Reading) {
                Fragment::Unread(set) => set,
                Fragment::Reading | Fragment::Read(_) => return Err(Unreadable::Cycle(name)),
            },
        };
        let measure = self.selections(&set, nesting + 1)?;
        self.fragments.insert(name, Fragment::Read(measure));
        Ok(measure)
    }

    /// A field costs its weight and what is selected in it, for each of its items.
    fn field(&mut self, field: &cst::Field, nesting: usize) -> Result<Measure, Unreadable> {
        let name = text(field.name()).unwrap_or_default();
        let within = match field.selection_set() {
            Some(set) => self.selections(&set, nesting + 1)?,
            None => Measure::default(),
        };
        let one = within.cost.saturating_add(self.cost.weight(&name));
        Ok(Measure {
            depth: within.depth + 1,
            cost: one.saturating_mul(self.items(&name, field)),
            introspects: within.introspects || (name.starts_with("__") && name != "__typename"),
        })
    }

    /// How many items a field may have: by its arguments, else as configured.
    fn items(&self, name: &str, field: &cst::Field) -> u64 {
        let arguments: Vec<_> = field.arguments().iter().flat_map(cst::Arguments::arguments).collect();
        let value = |path: &String| {
            let mut parts = path.split('.');
            let first = parts.next()?;
            let argument = arguments.iter().find(|argument| text(argument.name()).as_deref() == Some(first))?;
            let value = json(&argument.value()?, &self.variables, 0);
            let found = parts.try_fold(&value, |value, part| value.get(part))?;
            match (found.as_u64(), found.as_f64()) {
                (Some(items), _) => Some(items),
                // A negative number is no bound, and what is larger than an integer is none either.
                (None, Some(_)) => Some(u64::MAX),
                (None, None) => None,
            }
        };
        let asked = self.cost.multipliers.iter().filter_map(value).max();
        asked.unwrap_or_else(|| self.cost.items(name)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost() -> Cost {
        serde_json::from_str(
            r#"{"fields":{"search":10,"free":0},"multipliers":["first","page.limit"],"lists":{"tags":5}}"#,
        )
        .unwrap()
    }

    fn operation(query: &str, name: Option<&str>, variables: &str) -> Result<Operation, Unreadable> {
        read(query, name, &serde_json::from_str(variables).unwrap(), &cost())
    }

    fn measure(query: &str) -> (u32, u64) {
        let measure = operation(query, None, r#"{"n":7,"o":{"limit":3}}"#).unwrap().measure;
        (measure.depth, measure.cost)
    }

    #[test]
    fn depth_and_cost_follow_the_selections() {
        assert_eq!(measure("{ a }"), (1, 1));
        assert_eq!(measure("{ a { b c { d } } e }"), (3, 5));
        assert_eq!(measure("{ search { a } free }"), (2, 11));
        assert_eq!(measure("{ posts(first: 10) { title tags } }"), (2, 10 * (1 + 1 + 5)));
        assert_eq!(measure("{ a: b b: b }"), (1, 2));
        assert_eq!(measure("{ ... on T { a } ... @include(if: true) { b { c } } }"), (2, 3));
    }

    #[test]
    fn numbers_of_items_come_from_arguments_variables_and_defaults() {
        assert_eq!(measure("query ($n: Int) { a(first: $n) }"), (1, 7));
        assert_eq!(measure("query ($m: Int = 4) { a(first: $m) }"), (1, 4));
        assert_eq!(measure("query ($n: Int = 4) { a(first: $n) }"), (1, 7));
        assert_eq!(measure("query ($m: Int) { tags(first: $m) }"), (1, 5));
        assert_eq!(measure("{ a(page: { limit: 6 }) }"), (1, 6));
        assert_eq!(measure("query ($o: P) { a(page: $o) }"), (1, 3));
        assert_eq!(measure("{ a(first: 0) }"), (1, 1));
        for endless in ["-1", "99999999999999999999", "9223372036854775807"] {
            assert!(measure(&format!("{{ a(first: {endless}) {{ b }} }}")).1 >= i64::MAX as u64, "{endless}");
        }
    }

    #[test]
    fn fragments_count_where_they_are_spread() {
        assert_eq!(measure("{ a { ...F } b { ...F } } fragment F on T { c { d } }"), (3, 6));
        let doubling: String =
            (0..60).map(|n| format!("fragment F{n} on T {{ ...F{} ...F{} }}", n + 1, n + 1)).collect();
        let (depth, cost) = measure(&format!("{{ ...F0 }} {doubling} fragment F60 on T {{ a }}"));
        assert_eq!((depth, cost), (1, 1 << 60));
    }

    #[test]
    fn what_cannot_run_is_told_apart() {
        let error = |query| operation(query, None, "{}").unwrap_err();
        assert!(matches!(error("{ a"), Unreadable::Syntax(_)));
        assert!(matches!(error(""), Unreadable::Syntax(_) | Unreadable::WhichOperation));
        assert!(matches!(error("type T { a: Int } { a }"), Unreadable::Syntax(_)));
        assert_eq!(error("query A { a } query B { b }"), Unreadable::WhichOperation);
        assert_eq!(error("fragment F on T { a }"), Unreadable::WhichOperation);
        assert_eq!(error("{ ...F }"), Unreadable::UnknownFragment("F".to_owned()));
        assert_eq!(error("{ ...F } fragment F on T { a { ...F } }"), Unreadable::Cycle("F".to_owned()));
    }

    #[test]
    fn the_operation_of_the_name_runs() {
        let both = "query A { a } mutation B { b { c } }";
        let b = operation(both, Some("B"), "{}").unwrap();
        assert_eq!((b.kind, b.name.as_deref(), b.measure.depth), (Kind::Mutation, Some("B"), 2));
        assert_eq!(operation(both, Some("C"), "{}"), Err(Unreadable::WhichOperation));
        assert_eq!(operation("subscription { s }", None, "{}").unwrap().kind, Kind::Subscription);
        assert_eq!(operation("query A { a } query A { b }", Some("A"), "{}"), Err(Unreadable::WhichOperation));
    }

    #[test]
    fn what_is_nested_too_deeply_or_too_long_is_not_walked() {
        let nested =
            |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(5000), close.repeat(5000));
        for query in [
            nested("{ a ", "{ b }", "}"),
            format!("{{ a(b: {}) }}", nested("[", "", "]")),
            format!("{{ a(b: {}) }}", nested("{ c: ", "1", "}")),
            format!("query ($v: {}) {{ a }}", nested("[", "T", "]")),
            nested("{ ... ", "{ b }", "}"),
            format!("{{ {} }}", "a ".repeat(20_000)),
        ] {
            assert_eq!(operation(&query, None, "{}"), Err(Unreadable::TooLarge), "{}", &query[..20]);
        }
        let chain: String = (0..300).map(|n| format!("fragment F{n} on T {{ a {{ ...F{} }} }}", n + 1)).collect();
        let chain = format!("{{ ...F0 }} {chain} fragment F300 on T {{ a }}");
        assert_eq!(operation(&chain, None, "{}"), Err(Unreadable::TooLarge));
    }

    #[test]
    fn introspection_is_found_wherever_it_is() {
        for (query, expected) in [
            ("{ __typename a { __typename } }", false),
            ("{ __schema { types { name } } }", true),
            ("{ ...F } fragment F on Query { x: __type(name: \"T\") { name } }", true),
        ] {
            assert_eq!(operation(query, None, "{}").unwrap().measure.introspects, expected, "{query}");
        }
    }
}
