//! Classes as a user names them.

use crate::usage::Usage;

/// How like two names must be for one to be listed for the other, from 0 to 1.
const LIKE: f64 = 0.6;
/// Most names that are listed.
const LISTED: usize = 5;

/// The numbers of classes that are given by name or number; a name counts before a number.
pub(super) fn numbers(
    words: &[String],
    classes: i64,
    names: Option<&[String]>,
) -> Result<Vec<i64>, Usage> {
    words
        .iter()
        .map(|word| number(word.trim(), classes, names.unwrap_or_default()))
        .collect()
}

fn number(word: &str, classes: i64, names: &[String]) -> Result<i64, Usage> {
    let place = |fits: &dyn Fn(&str) -> bool| {
        let mut places = (0..).zip(names).filter(|(_, name)| fits(name));
        let first = places.next().map(|(place, _)| place);
        // A name in another case counts where it is the only one.
        first.filter(|_| places.next().is_none())
    };
    let exact = place(&|name| name == word);
    let named = exact.or_else(|| place(&|name| name.to_lowercase() == word.to_lowercase()));
    let numbered = word
        .parse()
        .ok()
        .filter(|number| (0..classes).contains(number));
    named
        .or(numbered)
        .ok_or_else(|| unknown(word, classes, names))
}

fn unknown(word: &str, classes: i64, names: &[String]) -> Usage {
    let expected = format!(
        "--class: expected balanced, data, none, or classes from 0 to {}{}, with commas between, got {word:?}",
        classes - 1,
        if names.is_empty() {
            ""
        } else {
            " or their names"
        },
    );
    let lower = word.to_lowercase();
    let mut like: Vec<(f64, &str)> = names
        .iter()
        .map(|name| (likeness(&name.to_lowercase(), &lower), &**name))
        .filter(|(like, _)| *like >= LIKE)
        .collect();
    like.sort_by(|a, b| b.0.total_cmp(&a.0));
    let like: Vec<&str> = like.iter().take(LISTED).map(|(_, name)| *name).collect();
    Usage(if !like.is_empty() {
        format!("{expected}; names like it: {}", like.join(", "))
    } else if names.is_empty() {
        format!("{expected}; these weights have no names of classes")
    } else {
        let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
        let more = if names.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        format!("{expected}; the names are {}{more}", shown.join(", "))
    })
}

/// How like two words are: by what they begin with, or by the slips that turn one into the other.
fn likeness(one: &str, other: &str) -> f64 {
    let slips = strsim::normalized_damerau_levenshtein(one, other);
    strsim::jaro_winkler(one, other).max(slips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(word: &str) -> Result<Vec<i64>, String> {
        let names = ["cat", "Dog", "doge", "7", "1"].map(str::to_owned);
        let words: Vec<String> = word.split(',').map(str::to_owned).collect();
        numbers(&words, 5, Some(&names)).map_err(|error| error.0)
    }

    #[test]
    fn names_count_before_numbers_and_in_any_case() {
        assert_eq!(of("cat,dog, doge,2").unwrap(), [0, 1, 2, 2]);
        // Class 4 is called 1, and class 3 is called 7.
        assert_eq!(of("1,7,3").unwrap(), [4, 3, 3]);
    }

    #[test]
    fn an_unknown_name_lists_those_like_it() {
        let error = of("cta").unwrap_err();
        assert!(error.contains("names like it: cat"), "{error}");
        assert!(of("zebra").unwrap_err().contains("the names are cat, Dog"));
        assert!(of("5").is_err() && of("-1").is_err() && of("").is_err());
        let error = numbers(&["cat".to_owned()], 5, None).unwrap_err().0;
        assert!(error.contains("have no names"), "{error}");
    }
}
