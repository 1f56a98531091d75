//! Shrinking: what can be left out of a story that fails, so that a person has less to read.

/// The smallest list of `parts` that was found, in their order, for which `fails` still holds: stretches are left out
/// one after another, long ones first. `fails` is asked at most `tries` times, and holds for all of `parts`.
pub fn shrink<T: Clone>(
    parts: Vec<T>,
    tries: &mut u32,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut kept = parts;
    let mut stretch = kept.len().div_ceil(2);
    while stretch > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < kept.len() {
            if *tries == 0 {
                return kept;
            }
            *tries -= 1;
            let to = (from + stretch).min(kept.len());
            let without: Vec<T> = [&kept[..from], &kept[to..]].concat();
            if fails(&without) {
                kept = without;
                shorter = true;
            } else {
                from = to;
            }
        }
        // What could not be left out before may be left out now.
        if !(shorter && stretch == 1) {
            stretch /= 2;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_does_not_need_is_left_out() {
        let mut tries = 1_000;
        let needs = [7, 8, 30];
        let kept = shrink((0..40).collect(), &mut tries, |parts: &[u32]| {
            needs.iter().all(|need| parts.contains(need))
        });
        assert_eq!(kept, needs);
        assert!(tries > 850, "{} tries for 40 parts", 1_000 - tries);
    }

    #[test]
    fn what_can_only_go_after_something_else_goes_too() {
        let mut tries = 1_000;
        // 1 may go only when 2 is gone.
        let kept = shrink(vec![1, 2, 3], &mut tries, |parts: &[u32]| {
            parts.contains(&3) && (parts.contains(&1) || !parts.contains(&2))
        });
        assert_eq!(kept, [3]);
    }

    #[test]
    fn it_stops_when_it_has_tried_enough() {
        let mut tries = 3;
        let mut asked = 0;
        let kept = shrink((0..100).collect::<Vec<u32>>(), &mut tries, |_| {
            asked += 1;
            false
        });
        assert_eq!((kept.len(), asked), (100, 3));
    }
}
