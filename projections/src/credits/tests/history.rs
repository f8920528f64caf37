//! Random histories of credits, in every order of arrival, against the plain rules.

use ledger::entry::Entry;
use ledger::report::nodes::OpenChain;
use proptest::prelude::*;

use super::script::key;
use super::*;

/// A history of many people and nodes with small sums and short ends, so that all rules meet often.
struct History {
    world: World,
    mints: Mints,
    dice: Dice,
    accounts: Vec<AccountId>,
    /// With the node that each is for.
    holds: Vec<(HoldId, NodeId)>,
}

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const NODES: usize = 3;

impl History {
    fn write(seed: u64, steps: usize) -> Self {
        let mut world = World::empty();
        (0..NODES).for_each(|_| {
            world.join();
        });
        let mut mints = Mints::new();
        let mut accounts = Vec::new();
        for who in PEOPLE {
            let account = world.open(who).into();
            mints.insert(world.ops.last().expect("was just opened").id(), (account, 30));
            accounts.push(account);
        }
        for (node, account) in accounts.iter().enumerate() {
            world.say(node, announce(Some(*account)));
        }
        let mut history = Self {
            world,
            mints,
            dice: Dice(seed),
            accounts,
            holds: Vec::new(),
        };
        for _ in 0..steps {
            let node = history.dice.roll(NODES);
            let entries = (0..1 + history.dice.roll(2))
                .map(|_| history.entry(node))
                .collect();
            match history.dice.roll(20) {
                0 => history.world.now_ms += 200,
                1 => {
                    history.world.restart(node);
                }
                _ => {}
            }
            let op = history.world.op(node, entries);
            if history.dice.roll(15) == 0 {
                let account = history.account();
                history.mints.insert(op, (account, 10));
            }
        }
        history
    }

    fn account(&mut self) -> AccountId {
        let known = self.accounts[self.dice.roll(PEOPLE.len())];
        if self.dice.roll(20) == 0 {
            AccountId([1; 32])
        } else {
            known
        }
    }

    fn amount(&mut self) -> u64 {
        if self.dice.roll(20) == 0 {
            u64::MAX
        } else {
            1 + self.dice.roll(12) as u64
        }
    }

    fn end_ms(&mut self) -> u64 {
        let far = CREDITS_LIFETIME_MS_MAX * u64::from(self.dice.roll(30) == 0);
        self.world.now_ms - 20 + 10 * self.dice.roll(40) as u64 + far
    }

    fn node(&mut self) -> NodeId {
        let known = self.world.node(self.dice.roll(NODES));
        if self.dice.roll(20) == 0 {
            NodeId([1; 32])
        } else {
            known
        }
    }

    fn entry(&mut self, node: usize) -> Entry {
        let (amount, incarnation) = (self.amount(), 1 + self.dice.roll(2) as u64);
        let recent = &self.holds[self.holds.len().saturating_sub(8)..];
        let id = self.world.node(node);
        let of_node: Vec<_> = recent.iter().copied().filter(|(_, node)| *node == id).collect();
        let among = if self.dice.roll(8) == 0 { recent } else { &of_node };
        let hold = self.dice.pick(among).map_or(HoldId([1; 32]), |it| it.0);
        let who = PEOPLE[self.dice.roll(PEOPLE.len())];
        let report: Report = match self.dice.roll(16) {
            0..3 => {
                let to = self.account();
                let memo = String::new();
                return self.ask(who, TransferCredits { to, amount, memo });
            }
            3..6 => {
                let (node, expires_ms) = (self.node(), self.end_ms());
                let ask = GrantRights {
                    node,
                    incarnation,
                    amount,
                    expires_ms,
                };
                return self.ask(who, ask);
            }
            6..8 => {
                let (node, expires_ms) = (self.node(), self.end_ms());
                let purpose = String::new();
                let ask = PlaceHold {
                    node,
                    amount: amount.saturating_mul(3),
                    expires_ms,
                    purpose,
                };
                let command = self.world.sign(who, ask);
                self.holds.push((command.id().into(), node));
                return carry(&command);
            }
            8 => return self.ask(who, ReleaseHold { hold }),
            9..13 => {
                let number = self.dice.roll(6) as u64;
                Charge { hold, amount, number }.into()
            }
            13 => EndHold { hold }.into(),
            14 => {
                let account = self.account();
                ReturnRights {
                    account,
                    incarnation,
                    amount,
                }
                .into()
            }
            _ => {
                let payout = Some(self.account()).filter(|_| self.dice.roll(3) > 0);
                announce(payout).into()
            }
        };
        report.to_entry()
    }

    fn ask(&mut self, who: &str, body: impl Into<ledger::command::Body>) -> Entry {
        carry(&self.world.sign(who, body))
    }

    /// The plain rules: sort, then read one after the other.
    fn oracle(&self) -> (Purses, Vec<String>) {
        let mut ops = self.world.ops.clone();
        ops.sort_by_key(|op| (op.order(), op.id()));
        let (mut purses, mut told) = (Purses::default(), Vec::new());
        for op in &ops {
            purses.advance(op.body().hlc.ms());
            for entry in &op.body().entries {
                let verdict = match Report::from_entry(entry).expect("is well formed") {
                    Report::OpenChain(OpenChain { .. }) => {
                        purses.joined(op.node());
                        Ok(())
                    }
                    Report::Carry(carry) => {
                        let signed = SignedCommand::decode(self.world.genesis.network(), &carry.command)
                            .expect("is well formed");
                        match &signed.command().body {
                            ledger::command::Body::OpenAccount(_) => {
                                purses.opened(signed.id().into());
                                Ok(())
                            }
                            body => {
                                let index = PEOPLE
                                    .iter()
                                    .position(|who| key(who) == signed.command().key)
                                    .expect("one of the people signed");
                                let verdict = purses.act(signed.id(), self.accounts[index], body);
                                verdict.expect("is about credits")
                            }
                        }
                    }
                    report => purses.report(op.slot().chain, &report).expect("is about credits"),
                };
                told.push(verdict.err().unwrap_or("Applied").to_owned());
            }
            if let Some((account, amount)) = self.mints.get(&op.id()) {
                let _ = purses.mint(*account, *amount);
            }
        }
        (purses, told)
    }
}

fn carry(command: &SignedCommand) -> Entry {
    let command = command.bytes().to_vec();
    Report::from(Carry { command }).to_entry()
}

/// "Applied", or the name of the reason.
fn name_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied => "Applied".into(),
        Outcome::Void(void) => format!("{void:?}")
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect(),
    }
}

fn names(fold: &SmallFold) -> Vec<String> {
    let outcomes = fold.steps.iter().flat_map(|step| &step.outcomes);
    outcomes.map(name_of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_arrival_gives_the_credits_of_the_plain_rules(
        seed: u64,
        steps in 1usize..120,
        late in prop_oneof![Just(0), Just(4), Just(40), Just(1000)],
    ) {
        let history = History::write(seed, steps);
        let (purses, told) = history.oracle();
        let genesis = &history.world.genesis;
        let whole = SmallFold::of(genesis, &history.mints, &history.world.ops);
        purses.compare(&whole.cloud);
        prop_assert_eq!(&told, &names(&whole));

        let mut dice = Dice(seed ^ 1);
        let mut order: Vec<(usize, &Op)> = history
            .world
            .ops
            .iter()
            .enumerate()
            .map(|(index, op)| (index + dice.roll(late + 1), op))
            .collect();
        order.sort_by_key(|(arrival, _)| *arrival);
        let mut fold = SmallFold::new(genesis, &history.mints);
        order.iter().for_each(|(_, op)| fold.insert(op));
        prop_assert_eq!(encode(&fold.cloud), encode(&whole.cloud));
        prop_assert_eq!(names(&fold), told);
    }
}

/// The histories are worth little if most of what they say is void for one reason.
#[test]
fn the_histories_meet_every_rule() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..40 {
        for told in History::write(seed, 110).oracle().1 {
            *counts.entry(told).or_default() += 1;
        }
    }
    let met = [
        "AlreadyReported",
        "Applied",
        "BeyondHold",
        "Lapsed",
        "NoPayout",
        "NotEnough",
        "NotEnoughRights",
        "NotFound",
        "NotItsPlace",
        "NotOwner",
        "Refused",
    ];
    assert!(met.iter().all(|rule| counts.contains_key(*rule)), "{counts:?}");
    assert!(
        counts["Applied"] * 3 > counts.values().sum::<usize>(),
        "{counts:?}"
    );
}
