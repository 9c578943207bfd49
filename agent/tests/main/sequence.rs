//! Places: a set of ranges must say what a plain set would say.

use std::collections::BTreeSet;

use dashfleet_agent::engine::sequence::Sequence;
use dashfleet_agent::journal::record::Key;
use domain::ActionId;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Open(i64),
    Settle(i64),
    SettleBetween(i64, i64),
    Forget(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..40i64).prop_map(Step::Open),
        (1..40i64).prop_map(Step::Settle),
        (0..40i64, 0..40i64).prop_map(|(from, to)| Step::SettleBetween(from, to)),
        (1..40i64).prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ranges_say_what_a_set_says(steps in proptest::collection::vec(step(), 0..60)) {
        let key = Key { action: ActionId::new(), attempt: 1 };
        let mut sequence = Sequence::default();
        let (mut open, mut settled) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Open(seq) => {
                    sequence.open(seq, key);
                    if !settled.contains(&seq) {
                        open.insert(seq);
                    }
                }
                Step::Settle(seq) => {
                    sequence.settle(seq);
                    open.remove(&seq);
                    settled.insert(seq);
                }
                Step::SettleBetween(from, to) => {
                    let before = settled.len();
                    let news = sequence.settle_between(from, to);
                    settled.extend((from.max(1)..=to).filter(|seq| !open.contains(seq)));
                    prop_assert_eq!(news, settled.len() > before);
                }
                Step::Forget(seq) => {
                    sequence.forget(seq);
                    open.remove(&seq);
                }
            }
            let knows = |seq: &i64| open.contains(seq) || settled.contains(seq);
            for seq in 1..45 {
                prop_assert_eq!(sequence.knows(seq), knows(&seq), "place {}", seq);
            }
            prop_assert_eq!(sequence.settled_through(), (1..).take_while(|seq| settled.contains(seq)).count() as i64);
            prop_assert_eq!(sequence.known_through(), (1..).take_while(knows).count() as i64);
            prop_assert_eq!(sequence.last(), open.iter().chain(&settled).max().copied().unwrap_or(0));
        }
    }
}
