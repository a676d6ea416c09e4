//! The figures in a page, between two markers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->";

/// Puts `figures` between the markers of the file.
pub fn write(path: &Path, figures: &str) -> Result<()> {
    let page = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = replace(&page, figures).with_context(|| format!("{} has no two markers", path.display()))?;
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(page: &str, figures: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{}\n\n{END}{tail}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let once = replace(&page, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_page_without_markers_is_left_alone() {
        assert_eq!(replace("text", "new"), None);
        assert_eq!(replace(BEGIN, "new"), None);
    }
}
