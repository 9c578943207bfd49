//! Batches that several statements judge, one after the other: what one of them leaves is the next one's.

/// The items that have no answer yet, in their order.
pub(super) fn left<'a, Item, Answer>(
    items: &[&'a Item],
    answers: &[Option<Answer>],
) -> Vec<&'a Item> {
    items
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer.is_none())
        .map(|(item, _)| *item)
        .collect()
}

/// All answers: those that there are, and in the gaps, in their order, those to what was left.
pub(super) fn filled<Answer>(
    answers: Vec<Option<Answer>>,
    to_left: impl IntoIterator<Item = Answer>,
) -> Vec<Answer> {
    let mut to_left = to_left.into_iter();
    answers
        .into_iter()
        .filter_map(|answer| answer.or_else(|| to_left.next()))
        .collect()
}
