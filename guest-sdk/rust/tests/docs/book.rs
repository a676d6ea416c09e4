//! `docs/writing-filters.md`: each of its listings stands in a file that is compiled and tested here.

#[allow(unreachable_pub, dead_code, reason = "what is here a module is there a library")]
mod configured;
#[allow(unreachable_pub, dead_code, reason = "what is here a module is there a library")]
mod forward;
#[allow(unreachable_pub, dead_code, reason = "what is here a module is there a library")]
mod shout;
#[allow(unreachable_pub, dead_code, reason = "what is here a module is there a library")]
mod talk;

const BOOK: &str = include_str!("../../../../docs/writing-filters.md");
const SOURCES: [&str; 4] = [
    include_str!("book/forward.rs"),
    include_str!("book/configured.rs"),
    include_str!("book/talk.rs"),
    include_str!("book/cases.toml"),
];

/// The listings of a language, as they stand between their fences.
fn listings(language: &str) -> impl Iterator<Item = &'static str> {
    BOOK.split("\n```").filter_map(move |part| part.strip_prefix(language)?.strip_prefix('\n'))
}

#[test]
fn listings_are_what_is_compiled() {
    assert!(listings("rust").count() >= 6);
    for listing in listings("rust") {
        let listing = listing.trim_end();
        assert!(SOURCES.iter().any(|source| source.contains(listing)), "in no file of tests/docs/book:\n{listing}");
    }
}

#[test]
fn the_listing_of_the_readme_is_what_is_compiled() {
    assert!(include_str!("../../../../README.md").contains(include_str!("book/shout.rs")));
}

#[test]
fn the_cases_are_shown_whole() {
    assert!(BOOK.contains(SOURCES[3]));
}

#[test]
fn the_filter_can_be_put_together_from_its_listings() {
    let [.., whole, _] = SOURCES;
    let shown: Vec<&str> = listings("rust").flat_map(str::lines).collect();
    for line in whole.lines().filter(|line| !line.trim().is_empty()) {
        assert!(shown.contains(&line), "not in the book: {line}");
    }
}
