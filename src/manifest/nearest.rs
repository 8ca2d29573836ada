//! The name that somebody probably meant.

/// The candidate that is fewest letters away, when that is few enough to be a slip.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody slips over a text; the bound also keeps the work small for hostile names.
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let folded = fold(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(away, candidate)| *away <= candidate.chars().count().min(folded.len()).div_ceil(3))
        .min_by_key(|(away, _)| *away)
        .map(|(_, candidate)| candidate)
}

/// Case, and which dash somebody's other tool uses, are not what a name is about.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Letters to insert, remove, change or swap with a neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let keys = ["memory", "pids", "cpus", "cpu-time", "wall", "disk", "output"];
        for (word, meant) in [
            ("memmory", Some("memory")),
            ("mem0ry", Some("memory")),
            ("Memory", Some("memory")),
            ("cpu_time", Some("cpu-time")),
            ("cputime", Some("cpu-time")),
            ("dsik", Some("disk")),
            ("pid", Some("pids")),
            ("zebra", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"m".repeat(1_000_000), keys), None);
    }
}
