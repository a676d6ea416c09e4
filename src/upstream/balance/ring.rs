//! The ring of `ring_hash` (consistent hashing, as ketama has it): each endpoint has points on it by its weight, and a
//! value belongs to the next point. Where an endpoint goes, only what was its own moves.

use super::super::choice::stable_hash;

/// Points of an endpoint for each unit of weight. With 160 the shares of equal endpoints differ by some 8%.
const POINTS_PER_WEIGHT: usize = 160;
/// Points altogether, 16 bytes each; with more, every endpoint has fewer.
const MAX_POINTS: usize = 1 << 18;

pub(super) struct Ring {
    /// In the order of the ring: place and index of the endpoint.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Of endpoints with their weights, in the order of their indices.
    pub(super) fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let total: usize = endpoints.clone().map(|(_, weight)| weight as usize * POINTS_PER_WEIGHT).sum();
        let mut points = Vec::with_capacity(total.min(MAX_POINTS));
        for (index, (label, weight)) in (0..).zip(endpoints) {
            let own = weight as usize * POINTS_PER_WEIGHT;
            let own = if total > MAX_POINTS { (own * MAX_POINTS / total).max(usize::from(own > 0)) } else { own };
            let point = |point: usize| (stable_hash(&[label.as_bytes(), &point.to_be_bytes()]), index);
            points.extend((0..own).map(point));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The first endpoint that is free, from the hash on.
    pub(super) fn find(&self, hash: u64, is_free: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(place, _)| *place < hash);
        let (before, from) = self.points.split_at(start);
        let mut indices = from.iter().chain(before).map(|(_, index)| *index as usize);
        indices.find(|index| is_free(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.0.{n}:9001")).collect()
    }

    fn ring(labels: &[String], weight: impl Fn(usize) -> u32 + Clone) -> Ring {
        Ring::new(labels.iter().enumerate().map(move |(n, label)| (label.as_str(), weight(n))))
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000_u32).map(|key| stable_hash(&[&key.to_be_bytes()]))
    }

    #[test]
    fn where_one_of_ten_goes_only_its_own_tenth_moves() {
        let labels = labels(10);
        let (all, fewer) = (ring(&labels, |_| 1), ring(&labels[..9], |_| 1));
        let mut moved = 0;
        for key in keys() {
            let (before, after) = (all.find(key, |_| true).unwrap(), fewer.find(key, |_| true).unwrap());
            assert!(before == after || before == 9, "{before} {after}");
            moved += usize::from(before != after);
        }
        assert!((1_400..2_600).contains(&moved), "{moved} of 20000 moved");
    }

    #[test]
    fn one_that_is_down_gives_its_share_to_others_and_gets_the_same_back() {
        let ring = ring(&labels(5), |_| 1);
        let mut taken = [0; 5];
        for key in keys() {
            let before = ring.find(key, |_| true).unwrap();
            let during = ring.find(key, |index| index != 2).unwrap();
            assert!(during != 2 && (before == during || before == 2));
            taken[during] += usize::from(before == 2);
        }
        assert!([0, 1, 3, 4].iter().all(|index| taken[*index] > 300), "all of them take some: {taken:?}");
    }

    #[test]
    fn shares_follow_weights() {
        let ring = ring(&labels(3), |n| [1, 2, 0][n]);
        let mut shares = [0; 3];
        keys().for_each(|key| shares[ring.find(key, |_| true).unwrap()] += 1);
        assert_eq!(shares[2], 0);
        assert!((11_500..15_200).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn the_ring_is_bounded() {
        let ring = ring(&labels(1024), |_| 256);
        assert!(ring.points.len() <= MAX_POINTS + 1024, "{}", ring.points.len());
        assert!(ring.find(7, |index| index == 1023).is_some());
    }

    #[test]
    fn nobody_is_found_where_nobody_is() {
        assert_eq!(ring(&[], |_| 1).find(7, |_| true), None);
        assert_eq!(ring(&labels(3), |_| 1).find(7, |_| false), None);
    }
}
