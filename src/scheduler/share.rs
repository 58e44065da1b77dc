//! How prompts share what a step has left for prefill.
//!
//! - The first prompt in order (priority, then arrival) is promised half of the budget: a long prompt
//!   always moves on, and is never overtaken for good.
//! - The other half goes to the other prompts, within a priority those with the least left first: a
//!   short prompt starts to answer within a step or two, however long the one before it is.
//! - What they leave goes to the first prompt.

/// A prompt that wants a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    pub priority: i32,
    /// Tokens left to compute, at least one.
    pub left: usize,
}

/// The chunk of each prompt of `wants` (in order), zero for none; together at most `budget`, each at
/// most `max_chunk`.
pub(super) fn share(budget: usize, max_chunk: usize, wants: &[Want]) -> Vec<usize> {
    let mut chunks = vec![0; wants.len()];
    let Some(first) = wants.first() else { return chunks };
    let most = |want: &Want| want.left.min(max_chunk);
    let promised = most(first).min(budget.div_ceil(2));
    let mut left = budget - promised;

    let mut others: Vec<usize> = (1..wants.len()).collect();
    // Stable: equals stay in order.
    others.sort_by_key(|&i| (std::cmp::Reverse(wants[i].priority), wants[i].left));
    for i in others {
        chunks[i] = most(&wants[i]).min(left);
        left -= chunks[i];
    }
    chunks[0] = most(first).min(promised + left);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(budget: usize, max_chunk: usize, left: &[usize]) -> Vec<usize> {
        let wants: Vec<Want> = left.iter().map(|&left| Want { priority: 0, left }).collect();
        share(budget, max_chunk, &wants)
    }

    #[test]
    fn a_prompt_alone_gets_everything() {
        assert_eq!(chunks(512, 512, &[4000]), [512]);
        assert_eq!(chunks(512, 128, &[4000]), [128]);
        assert_eq!(chunks(512, 512, &[10]), [10]);
        assert!(chunks(512, 512, &[]).is_empty());
    }

    #[test]
    fn short_prompts_pass_long_ones_but_for_the_first() {
        assert_eq!(chunks(512, 512, &[4000, 20, 30]), [462, 20, 30]);
        assert_eq!(chunks(512, 512, &[4000, 3000, 30]), [256, 226, 30]);
        assert_eq!(chunks(512, 512, &[30, 4000, 4000]), [30, 482, 0]);
    }

    #[test]
    fn priority_goes_before_length() {
        let wants = [(5, 100), (1, 90), (0, 10)].map(|(priority, left)| Want { priority, left });
        assert_eq!(share(100, 100, &wants), [50, 50, 0]);
    }

    proptest! {
        #[test]
        fn never_over_budget_and_never_idle(
            budget in 1usize..600, max_chunk in 1usize..300,
            left in proptest::collection::vec(1usize..1000, 1..20),
        ) {
            let got = chunks(budget, max_chunk, &left);
            let most: Vec<usize> = left.iter().map(|&l| l.min(max_chunk)).collect();
            prop_assert!(got.iter().zip(&most).all(|(g, m)| g <= m));
            prop_assert_eq!(got.iter().sum::<usize>(), budget.min(most.iter().sum()));
            prop_assert!(got[0] >= most[0].min(budget.div_ceil(2)));
        }
    }
}
