//! Two texts side by side, line by line: how a failed expectation is shown.

use std::fmt::Debug;

/// Up to how many pairs of lines are compared: beyond, both texts are shown whole. 1,000 lines against 1,000.
const PAIRS_MAX: usize = 1_000_000;

/// The lines of `expected` and `actual` as they print for people, those that differ marked with `-` and `+`.
pub(super) fn diff(expected: &(impl Debug + ?Sized), actual: &(impl Debug + ?Sized)) -> String {
    diff_texts(&format!("{expected:#?}"), &format!("{actual:#?}"))
}

fn diff_texts(expected: &str, actual: &str) -> String {
    let expected: Vec<_> = expected.lines().collect();
    let actual: Vec<_> = actual.lines().collect();
    let common = common_lines(&expected, &actual);
    let mut shown = String::from("  (- expected, + actual)\n");
    let mut line = |mark: char, text: &str| {
        shown.extend(["  ", mark.encode_utf8(&mut [0; 4]), " ", text, "\n"]);
    };
    let (mut left, mut right) = (0, 0);
    for (next_left, next_right) in common.into_iter().chain([(expected.len(), actual.len())]) {
        expected[left..next_left]
            .iter()
            .for_each(|text| line('-', text));
        actual[right..next_right]
            .iter()
            .for_each(|text| line('+', text));
        if let Some(text) = expected.get(next_left) {
            line(' ', text);
        }
        (left, right) = (next_left + 1, next_right + 1);
    }
    shown
}

/// The longest sequence of lines that both have, as pairs of their places.
fn common_lines(expected: &[&str], actual: &[&str]) -> Vec<(usize, usize)> {
    if expected.len().saturating_mul(actual.len()) > PAIRS_MAX {
        return Vec::new();
    }
    // length[i][j]: how many lines the texts have in common from lines i and j on.
    let width = actual.len() + 1;
    let mut length = vec![0_u32; (expected.len() + 1) * width];
    for (i, left) in expected.iter().enumerate().rev() {
        for (j, right) in actual.iter().enumerate().rev() {
            length[i * width + j] = if left == right {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut common) = (0, 0, Vec::new());
    while i < expected.len() && j < actual.len() {
        if expected[i] == actual[j] {
            common.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if length[(i + 1) * width + j] >= length[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked_and_what_both_have_stands_once() {
        #[track_caller]
        fn check(expected: &str, actual: &str, shown: &str) {
            let lines: Vec<_> = shown.split(' ').collect();
            let diff = diff_texts(&expected.replace(' ', "\n"), &actual.replace(' ', "\n"));
            let diff: Vec<_> = diff
                .lines()
                .skip(1)
                .map(|line| line[2..].replace("  ", "=").replace(' ', ""))
                .collect();
            assert_eq!(diff, lines, "{expected} / {actual}");
        }
        check("a b c", "a x c", "=a -b +x =c");
        check("a b", "b", "-a =b");
        check("b", "a b c", "+a =b +c");
        check("a", "b", "-a +b");
    }
}
