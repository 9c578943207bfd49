//! What is kept beside an `Idempotency-Key`, so that a repetition is answered alike.

use std::collections::HashSet;

use uuid::Uuid;

use super::item::Item;

/// The items whose execution is not their own.
pub(super) fn duplicates(ids: &[Uuid], items: &[Item]) -> HashSet<usize> {
    let pairs = ids.iter().zip(items).enumerate();
    pairs
        .filter(|(_, (id, item))| **id != item.id.0)
        .map(|(index, _)| index)
        .collect()
}

/// What is kept beside an `Idempotency-Key`: the execution of each item, then the numbers of those items whose execution was there
/// already, so that a repetition is answered alike.
pub(super) fn recorded(ids: &[Uuid], duplicates: &HashSet<usize>) -> Vec<Uuid> {
    let numbers = duplicates
        .iter()
        .map(|index| Uuid::from_u128(*index as u128));
    ids.iter().copied().chain(numbers).collect()
}

/// What [`recorded`] wrote of so many items.
pub(super) fn read_record(record: &[Uuid], items: usize) -> (Vec<Uuid>, HashSet<usize>) {
    let (ids, numbers) = record.split_at(items.min(record.len()));
    let numbers = numbers
        .iter()
        .filter_map(|number| usize::try_from(number.as_u128()).ok());
    (ids.to_vec(), numbers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_made_is_read_as_it_was_written() {
        let ids: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
        for duplicates in [HashSet::new(), HashSet::from([0, 3]), (0..5).collect()] {
            let record = recorded(&ids, &duplicates);
            assert_eq!(read_record(&record, 5), (ids.clone(), duplicates));
        }
        assert_eq!(read_record(&[], 1), (Vec::new(), HashSet::new()));
    }
}
