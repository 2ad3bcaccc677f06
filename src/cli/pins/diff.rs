//! What differs between two definitions, line by line as they are laid out.

use crate::serve::pretty;

/// A definition with a line for each member.
pub(super) fn laid_out(definition: &str) -> Vec<String> {
    let text = pretty::json(definition);
    let text = text.as_deref().unwrap_or(definition);
    text.lines().map(str::to_owned).collect()
}

/// The lines that only one of them has, in order: `-` of the first, `+` of the second.
pub(super) fn differing<'l>(before: &'l [String], after: &'l [String]) -> Vec<(char, &'l str)> {
    let common = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[common..], &after[common..]);
    let ends = before.iter().rev().zip(after.iter().rev());
    let tail = ends.take_while(|(a, b)| a == b).count();
    let before = &before[..before.len() - tail];
    let after = &after[..after.len() - tail];
    let removed = |lines: &'l [String]| lines.iter().map(|line| ('-', line.as_str()));
    let added = |lines: &'l [String]| lines.iter().map(|line| ('+', line.as_str()));
    if before.len().saturating_mul(after.len()) > CELLS_MAX {
        return removed(before).chain(added(after)).collect();
    }
    // The longest common subsequence, from the end.
    let width = after.len() + 1;
    let mut longest = vec![0_u32; (before.len() + 1) * width];
    for a in (0..before.len()).rev() {
        for b in (0..after.len()).rev() {
            longest[a * width + b] = match before[a] == after[b] {
                true => longest[(a + 1) * width + b + 1] + 1,
                false => longest[(a + 1) * width + b].max(longest[a * width + b + 1]),
            };
        }
    }
    let (mut a, mut b, mut lines) = (0, 0, Vec::new());
    while a < before.len() && b < after.len() {
        if before[a] == after[b] {
            (a, b) = (a + 1, b + 1);
        } else if longest[(a + 1) * width + b] >= longest[a * width + b + 1] {
            lines.push(('-', before[a].as_str()));
            a += 1;
        } else {
            lines.push(('+', after[b].as_str()));
            b += 1;
        }
    }
    lines.extend(removed(&before[a..]));
    lines.extend(added(&after[b..]));
    lines
}

/// Beyond this many pairs of lines all that lies between the common ends is shown.
const CELLS_MAX: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_one_of_them_has_are_told() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let told = |a: &str, b: &str| {
            let (a, b) = (lines(a), lines(b));
            let told = differing(&a, &b).into_iter();
            told.map(|(sign, line)| format!("{sign}{line}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(told("a b c", "a b c"), "");
        assert_eq!(told("a b c d", "a x c d"), "-b +x");
        assert_eq!(told("a b c d e", "a c d y e z"), "-b +y +z");
        assert_eq!(told("a", "b a"), "+b");
    }
}
