//! Lines that fit a screen, so that a text of the agent's can't use its edge: what is wrapped is set off from what begins a
//! line, and nothing is lost behind it.

/// Cells a character takes on the screen. Too many rather than too few: what is behind the edge can't be seen.
const fn cells(letter: char) -> usize {
    if letter.is_ascii() { 1 } else { 2 }
}

/// Every line of a text in as many as it needs.
pub(super) fn fitted(text: &str, width: usize) -> String {
    let lines = text.lines().flat_map(|line| wrap(line, width));
    lines.map(|line| line + "\n").collect()
}

/// A line in as many as it needs; none of it is lost.
pub(super) fn wrap(line: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for letter in line.chars() {
        if used + cells(letter) > width {
            // Set off, so that it can't pass for a line of its own.
            lines.push("    ".to_owned());
            used = 4;
        }
        used += cells(letter);
        if let Some(last) = lines.last_mut() {
            last.push(letter);
        }
    }
    lines
}

/// As much of a line as fits, and a sign that there is more.
pub(super) fn cut(line: &str, width: usize) -> String {
    if line.chars().map(cells).sum::<usize>() <= width {
        return line.to_owned();
    }
    let mut room = width.saturating_sub(3);
    let fits = |letter: &char| match room.checked_sub(cells(*letter)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    line.chars().take_while(fits).collect::<String>() + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_request_is_lost_at_the_edge() {
        let line = "x".repeat(95) + "日本語" + &"y".repeat(30);
        let lines = wrap(&line, 40);
        let width = |line: &String| line.chars().map(cells).sum::<usize>();
        assert!(lines.iter().all(|line| width(line) <= 40));
        let whole: String = lines.iter().map(|line| line.trim_start()).collect();
        assert_eq!(whole, line);
        assert_eq!(cut("abcdefgh", 6), "abc...");
    }

    #[test]
    fn a_text_that_is_padded_to_the_edge_begins_no_line() {
        let line = format!("intent     tidy{}digest     00", " ".repeat(26));
        assert_eq!(line.find("digest"), Some(41));
        for width in 20..60 {
            let text = fitted(&line, width);
            assert!(
                !text.lines().any(|line| line.starts_with("digest")),
                "{text}"
            );
        }
    }
}
