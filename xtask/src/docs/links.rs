//! Links between pages: each leads to a file that is there, and to a heading that it has.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::files;

/// Every link of the README and of the pages that leads nowhere, as `page: link`.
fn broken(root: &Path) -> Result<Vec<String>> {
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    pages.extend(files::below(&root.join("docs/src"), |_| true)?);
    pages.retain(|path| files::ends(path, "md"));
    let mut broken = Vec::new();
    for page in pages {
        let text = files::read(&page)?;
        for link in links(&text) {
            if !leads_somewhere(&page, link)? {
                let shown = page.strip_prefix(root)?.display();
                broken.push(format!("{shown}: {link}"));
            }
        }
    }
    Ok(broken)
}

/// The targets of the links of a page, without those that lead out of the project.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|link| !link.contains("://") && !link.starts_with("mailto:") && is_path(link))
}

/// Formulas have brackets behind brackets, too.
fn is_path(link: &str) -> bool {
    link.starts_with('#') || link.contains(['.', '/'])
}

fn leads_somewhere(page: &Path, link: &str) -> Result<bool> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().unwrap_or(Path::new(""));
    let target = match file {
        "" => page.to_owned(),
        file => folder.join(file),
    };
    if heading.is_empty() || !target.is_file() {
        return Ok(target.exists());
    }
    Ok(headings(&files::read(&target)?).contains(heading))
}

/// The names of the headings of a page in links: letters and digits in lower case, blanks as hyphens, a number behind repeated ones.
fn headings(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let titles = prose
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let mut all = BTreeSet::new();
    for title in titles {
        let kept = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let name: String = kept
            .flat_map(char::to_lowercase)
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect();
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        all.extend(names.find(|name| !all.contains(name)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;
    use std::fs;

    #[test]
    fn every_link_leads_somewhere() {
        let broken = broken(&workspace::root()).unwrap();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("docs/src")).unwrap();
        fs::write(folder.path().join("ARCHITECTURE.md"), "# A b, c\n").unwrap();
        let text = "[a](ARCHITECTURE.md#a-b-c) [b](b.md) [c](ARCHITECTURE.md#c) [d](https://x.example/y) ```[e](e.md)```";
        fs::write(folder.path().join("README.md"), text).unwrap();
        assert_eq!(
            broken(folder.path()).unwrap(),
            ["README.md: b.md", "README.md: ARCHITECTURE.md#c"]
        );
    }
}
