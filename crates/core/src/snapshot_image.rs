//! What of a memory isn't zero, as few runs of bytes.

use std::ops::Range;

use crate::bounds::IMAGE_BYTES;

/// The most runs. Each becomes a data segment, which the compiler looks at; the engine maps them all as one image.
pub(crate) const MOST_RUNS: usize = 1_000;
/// The fewest zeros between two runs: fewer take less room as zeros than a segment's head does.
const LEAST_GAP: usize = 8;
/// Memory that was never touched is passed over in pieces of this size.
const PIECE_BYTES: usize = 4_096;
const ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// The runs of bytes that aren't all zero, in the memory's order.
pub(crate) struct Image {
    pub(crate) runs: Vec<Range<usize>>,
    /// The bytes in all runs.
    pub(crate) bytes: u64,
}

impl Image {
    /// Finds at most [`MOST_RUNS`]: where there are more, those that stand nearest to each other are one.
    pub(crate) fn of(memory: &[u8]) -> Self {
        let mut gap = LEAST_GAP;
        let runs = loop {
            match runs(memory, gap) {
                Some(runs) => break runs,
                None => gap *= 2,
            }
        };
        let bytes = runs.iter().map(|run| run.len() as u64).sum();
        Self { runs, bytes }
    }

    /// Whether the engine can't map the runs, so that code copies them into every instance.
    pub(crate) fn is_copied(&self) -> bool {
        let first = self.runs.first().map_or(0, |run| run.start);
        let end = self.runs.last().map_or(0, |run| run.end);
        (end - first) as u64 >= IMAGE_BYTES
    }
}

/// Returns the runs with at least so many zeros between any two, or `None` where those are too many.
fn runs(memory: &[u8], gap: usize) -> Option<Vec<Range<usize>>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, piece) in memory.chunks(PIECE_BYTES).enumerate() {
        if Some(piece) == ZEROS.get(..piece.len()) {
            continue;
        }
        for (place, _) in piece.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            let place = number * PIECE_BYTES + place;
            let is_full = runs.len() == MOST_RUNS;
            match runs.last_mut() {
                Some(last) if place - last.end < gap => last.end = place + 1,
                _ if is_full => return None,
                _ => runs.push(place..place + 1),
            }
        }
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::{Image, MOST_RUNS};

    const SIZE: usize = 1 << 20;

    fn with(places: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut memory = vec![0; SIZE];
        places.into_iter().for_each(|place| memory[place] = 7);
        memory
    }

    /// Runs cover every byte that isn't zero, begin and end with one, and don't touch each other.
    #[test]
    fn runs_cover_what_is_not_zero() {
        for memory in [
            with([]),
            with([0, SIZE - 1]),
            with(4_090..4_100),
            with((0..SIZE).step_by(9)),
            with((0..SIZE).step_by(17)),
            with((0..SIZE).step_by(SIZE / 1_000)),
            with((0..400).map(|step| step * step)),
            vec![1; SIZE],
        ] {
            let image = Image::of(&memory);
            let mut covered = vec![0; SIZE];
            for run in &image.runs {
                assert!(memory[run.start] != 0 && memory[run.end - 1] != 0);
                covered[run.clone()].copy_from_slice(&memory[run.clone()]);
            }
            assert_eq!(covered, memory);
            assert!(image.runs.len() <= MOST_RUNS && image.runs.is_sorted_by(|one, next| one.end < next.start));
        }
    }

    /// Few zeros are kept with what surrounds them, many are left out.
    #[test]
    fn small_gaps_are_kept() {
        assert_eq!(Image::of(&with([10, 18])).runs, vec![10..19]);
        assert_eq!(Image::of(&with([10, 19])).runs, vec![10..11, 19..20]);
        assert_eq!(Image::of(&with([10, 19])).bytes, 2);
    }

    /// Data that spans 16 MiB or more is copied, however little it is.
    #[test]
    fn far_data_is_copied() {
        let mut memory = vec![0; (16 << 20) + 1];
        memory[0] = 1;
        memory[(16 << 20) - 2] = 1;
        assert!(!Image::of(&memory).is_copied());
        memory[(16 << 20) - 1] = 1;
        assert!(Image::of(&memory).is_copied());
    }
}
