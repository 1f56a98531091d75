//! The script of a story as data: what users do, how many lives there are, what goes wrong in each.
//!
//! It is drawn from a seed, and anything may be left out of it: that is how a story that fails is made short.

use std::fmt;

use factum_sim::Story;
use factum_testkit::faults::Call;
use orders::platform::Role;

use crate::plant::Plant;

/// All that is decided before a story begins.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Draws what the platform draws: ids, waits.
    pub(crate) seed: u64,
    /// What is wrong with the world on purpose.
    pub(crate) plant: Option<Plant>,
    /// After how many events a snapshot of an aggregate is kept, if that is not for the aggregates to say.
    pub(crate) snapshot_every: Option<u64>,
    /// What users do, each deed with its number, by which it is known in every life.
    pub(crate) deeds: Vec<(usize, Deed)>,
    /// The lives, of which the last runs until all is quiet.
    pub(crate) lives: Vec<Life>,
}

/// What a user does, once, however often they have to ask.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Register {
        user: usize,
    },
    Receive {
        sku: usize,
        qty: u64,
    },
    /// Many deliveries, one after another: more than any batch holds.
    Flood {
        sku: usize,
        times: usize,
    },
    Place {
        order: usize,
        user: usize,
        items: Vec<(usize, u32)>,
        card: &'static str,
        manual: bool,
    },
    Pay {
        order: usize,
    },
    Cancel {
        order: usize,
    },
    Ship {
        order: usize,
    },
    /// A message that nobody can read, in the lane of a user if it names one.
    Poison {
        number: usize,
        user: Option<usize>,
        readable: bool,
    },
    /// An order that another program took.
    Foreign {
        number: usize,
    },
}

/// One run of the platform.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) end: End,
    /// What happens, each before the deed of this number.
    pub(crate) happenings: Vec<(usize, Happening)>,
}

/// How a life ends.
#[derive(Clone, Debug, Default)]
pub(crate) enum End {
    /// In good order.
    #[default]
    Stopped,
    /// When it has gone on for a while.
    Killed,
    /// At its n-th point.
    Point(u64),
    /// At a point of this kind, after so many of them, or else in good order.
    Kind(&'static str, u64),
}

/// What goes wrong, or is done by operators, in the middle of a life.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// One of the next calls meets a fault.
    Fault {
        call: Call,
        nth: u64,
        trouble: Trouble,
    },
    /// Another node starts.
    Join(&'static str),
    /// A node ends, in good order or as a crash ends it, if it is not the last.
    Leave { node: &'static str, crash: bool },
    /// A node's store of one role, or all that it says to the broker, stands still for so many seconds.
    Pause {
        node: &'static str,
        role: Option<Role>,
        seconds: u64,
    },
    /// A node stands still with all that it has in hand, for so many seconds: for the others it is dead, and wakes up.
    Freeze { node: &'static str, seconds: u64 },
    /// What a node sends to a topic is on its way for so many seconds: whose it was has another owner by then.
    Stall {
        node: &'static str,
        topic: &'static str,
        seconds: u64,
    },
    /// Somebody sets the clock.
    Jump { seconds: i64 },
    /// Handlers are slow: each call to a firm outside takes so long.
    Slow { milliseconds: u64 },
    /// A handler panics, at that call to a firm outside from now on.
    Panic { nth: u64 },
    /// An operator has rows built anew.
    Rebuild(Role, &'static str),
    /// An operator redrives all that is dead.
    Redrive,
    /// An operator gives up what nobody can read.
    Discard,
    /// What has expired is dropped.
    Prune,
    /// Nothing happens for so many seconds.
    Wait { seconds: u64 },
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Fails,
    LosesItsAnswer,
    Twice,
    Swaps,
    Waits { seconds: u64 },
}

/// The projections, with their roles.
const PROJECTIONS: [(Role, &str); 6] = [
    (Role::Users, "users"),
    (Role::Order, "orders"),
    (Role::Order, "levels"),
    (Role::Payment, "payments"),
    (Role::Stock, "shelves"),
    (Role::Notification, "notifications"),
];

/// The nodes besides the first, which is `a`.
const OTHERS: [&str; 2] = ["b", "c"];
/// All nodes.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// Kinds of points at which lives are ended on purpose, since few come to them by chance.
pub(crate) const RARE: [&str; 23] = [
    "ClaimInbox  after",
    "ClaimProjection  after",
    "ClaimProjection  before",
    "ClaimRelay  after",
    "Commit command after",
    "Commit message after",
    "Commit nothing after",
    "Commit nothing before",
    "Commit operator after",
    "Commit operator before",
    "Commit parked after",
    "Commit parked before",
    "Commit relay after",
    "Commit void after",
    "DropGeneration  after",
    "DropGeneration  before",
    "ForgetProjection  after",
    "ForgetProjection  before",
    "Leave  after",
    "Leave  before",
    "Prune  before",
    "SaveSnapshot  after",
    "SaveSnapshot  before",
];

impl Script {
    /// The script of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut story = Story::new(seed);
        let choices = story.choices();
        let deeds = deeds(choices);
        let mut lives: Vec<_> = (0..choices.usize(1..6))
            .map(|_| life(choices, deeds.len()))
            .collect();
        lives.push(Life {
            end: End::Stopped,
            happenings: happenings(choices, deeds.len()),
        });
        Self {
            seed,
            plant: None,
            snapshot_every: one(choices, &[None, Some(1), Some(2), Some(5)]),
            deeds: deeds.into_iter().enumerate().collect(),
            lives,
        }
    }
}

fn one<T: Copy>(choices: &mut fastrand::Rng, of: &[T]) -> T {
    of[choices.usize(0..of.len())]
}

fn deeds(choices: &mut fastrand::Rng) -> Vec<Deed> {
    let users = choices.usize(1..4);
    let skus = choices.usize(1..4);
    let mut deeds: Vec<_> = (0..users).map(|user| Deed::Register { user }).collect();
    for sku in 0..skus {
        for _ in 0..choices.usize(1..4) {
            let qty = choices.u64(0..9);
            deeds.push(Deed::Receive { sku, qty });
        }
    }
    let orders = match choices.u8(0..16) {
        0 => choices.usize(20..40),
        _ => choices.usize(2..10),
    };
    for order in 0..orders {
        let items = (0..=choices.usize(0..2))
            .map(|_| (choices.usize(0..skus), choices.u32(1..4)))
            .collect();
        let cards = ["card:ok", "card:ok", "card:declined", "card:flaky"];
        let card = one(choices, &cards);
        let manual = choices.u8(0..4) == 0;
        let user = choices.usize(0..users);
        deeds.push(Deed::Place {
            order,
            user,
            items,
            card,
            manual,
        });
        if manual && choices.bool() {
            deeds.push(Deed::Pay { order });
        }
        let earlier = choices.usize(0..=order);
        match choices.u8(0..8) {
            0 => deeds.push(Deed::Cancel { order }),
            1 => deeds.push(Deed::Ship { order: earlier }),
            2 => deeds.push(Deed::Poison {
                number: order,
                user: choices.bool().then(|| choices.usize(0..users)),
                readable: choices.bool(),
            }),
            3 => deeds.push(Deed::Foreign { number: order }),
            4 => deeds.push(Deed::Cancel { order: earlier }),
            _ => {}
        }
    }
    // Few, since each is as long as many stories; some are long enough for snapshots of a shelf.
    let times = match choices.u16(0..256) {
        0 => choices.usize(1_100..1_300),
        1..4 => choices.usize(520..700),
        4..16 => choices.usize(30..90),
        _ => 0,
    };
    if times > 0 {
        let sku = choices.usize(0..skus);
        deeds.insert(
            choices.usize(users..deeds.len()),
            Deed::Flood { sku, times },
        );
    }
    // What is left open would never end.
    deeds.extend((0..orders).map(|order| Deed::Cancel { order }));
    deeds
}

fn life(choices: &mut fastrand::Rng, deeds: usize) -> Life {
    let end = match choices.u8(0..10) {
        0 => End::Stopped,
        1 => End::Killed,
        2..5 => End::Kind(one(choices, &RARE), choices.u64(0..4)),
        5..7 => End::Point(choices.u64(0..300)),
        _ => End::Point(choices.u64(0..3_000)),
    };
    Life {
        end,
        happenings: happenings(choices, deeds),
    }
}

fn happenings(choices: &mut fastrand::Rng, deeds: usize) -> Vec<(usize, Happening)> {
    let mut happenings = Vec::new();
    for _ in 0..choices.usize(0..6) {
        // Most faults are met soon after a life has begun, when all that it left is taken up again.
        let before = if choices.bool() {
            0
        } else {
            choices.usize(0..deeds)
        };
        happenings.push((before, fault(choices)));
    }
    for _ in 0..choices.usize(0..5) {
        let before = choices.usize(0..deeds);
        happenings.push((before, happening(choices)));
    }
    if choices.u8(0..3) == 0 {
        let (node, before) = (one(choices, &OTHERS), choices.usize(0..deeds));
        happenings.push((before, Happening::Join(node)));
        if choices.bool() {
            let (node, crash) = (one(choices, &NODES), choices.bool());
            let after = choices.usize(before..deeds);
            happenings.push((after, Happening::Leave { node, crash }));
        }
        for _ in 0..choices.usize(0..3) {
            let after = choices.usize(before..deeds);
            happenings.push((after, stands_still(choices)));
        }
    }
    // In the order of their deeds; what comes before one deed keeps the order in which it was drawn.
    happenings.sort_by_key(|(before, _)| *before);
    happenings
}

fn fault(choices: &mut fastrand::Rng) -> Happening {
    let calls = [Call::Commit, Call::Commit, Call::Send, Call::Deliver];
    let call = one(choices, &calls);
    let seconds = choices.u64(1..30);
    let trouble = match (call, choices.u8(0..4)) {
        (Call::Commit, 1) | (Call::Send, 0) => Trouble::Fails,
        (Call::Commit, 0) | (Call::Deliver, 0 | 1) => Trouble::Waits { seconds },
        (Call::Deliver | Call::Send, 2) => Trouble::Swaps,
        (Call::Deliver, _) | (Call::Send, 1) => Trouble::Twice,
        _ => Trouble::LosesItsAnswer,
    };
    Happening::Fault {
        call,
        nth: choices.u64(1..60),
        trouble,
    }
}

fn happening(choices: &mut fastrand::Rng) -> Happening {
    match choices.u8(0..12) {
        0 => {
            let far = choices.bool();
            let seconds = choices.i64(1..if far { 10_800 } else { 20 });
            let back = choices.bool();
            Happening::Jump {
                seconds: if back { -seconds } else { seconds },
            }
        }
        1 => Happening::Slow {
            milliseconds: choices.u64(50..4_000),
        },
        2 | 3 => Happening::Panic {
            nth: choices.u64(1..12),
        },
        4 | 5 => {
            let (role, projection) = one(choices, &PROJECTIONS);
            Happening::Rebuild(role, projection)
        }
        6 => Happening::Redrive,
        7 => Happening::Discard,
        8 => Happening::Prune,
        9 | 10 => Happening::Wait {
            seconds: choices.u64(1..15),
        },
        _ => stands_still(choices),
    }
}

fn stands_still(choices: &mut fastrand::Rng) -> Happening {
    let node = one(choices, &NODES);
    let seconds = choices.u64(1..40);
    match choices.u8(0..7) {
        0 => Happening::Pause {
            node,
            role: None,
            seconds,
        },
        2..5 => Happening::Freeze { node, seconds },
        1 => Happening::Stall {
            node,
            topic: one(choices, &["users", "orders", "payments", "stock"]),
            seconds,
        },
        _ => Happening::Pause {
            node,
            role: Some(one(choices, &Role::ALL)),
            seconds,
        },
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { call, nth, trouble } => {
                let what = match call {
                    Call::Commit => "commit",
                    Call::Send => "message sent",
                    Call::Deliver => "delivery",
                    _ => "call",
                };
                match trouble {
                    Trouble::Fails => write!(f, "{what} {nth} from now fails"),
                    Trouble::LosesItsAnswer => {
                        write!(f, "{what} {nth} from now is done, and its answer lost")
                    }
                    Trouble::Twice => write!(f, "{what} {nth} from now comes twice"),
                    Trouble::Swaps => write!(f, "{what} {nth} from now comes behind the next"),
                    Trouble::Waits { seconds } => {
                        write!(
                            f,
                            "{what} {nth} from now waits until {seconds} s from now have passed"
                        )
                    }
                }
            }
            Self::Join(node) => write!(f, "node {node} starts, if it doesn't run"),
            Self::Leave { node, crash: true } => write!(f, "node {node} crashes, if it runs"),
            Self::Leave { node, crash: false } => write!(f, "node {node} stops, if it runs"),
            Self::Pause {
                node,
                role: Some(role),
                seconds,
            } => write!(
                f,
                "the {role} service of node {node} stands still at its store for {seconds} s"
            ),
            Self::Pause {
                node,
                role: None,
                seconds,
            } => write!(
                f,
                "node {node} stands still at whatever it asks the broker for {seconds} s"
            ),
            Self::Freeze { node, seconds } => write!(f, "node {node} stands still for {seconds} s"),
            Self::Stall {
                node,
                topic,
                seconds,
            } => write!(
                f,
                "what node {node} sends next to `{topic}` is on its way for {seconds} s"
            ),
            Self::Jump { seconds } if *seconds < 0 => {
                write!(f, "the clock is set back by {} s", seconds.unsigned_abs())
            }
            Self::Jump { seconds } => write!(f, "the clock is set on by {seconds} s"),
            Self::Slow { milliseconds } => {
                write!(f, "firms outside take {milliseconds} ms for each call")
            }
            Self::Panic { nth } => {
                write!(
                    f,
                    "a handler panics at call {nth} to a firm outside from now"
                )
            }
            Self::Rebuild(role, projection) => {
                write!(
                    f,
                    "an operator rebuilds the rows of `{projection}` in {role}"
                )
            }
            Self::Redrive => f.write_str("an operator redrives all that is dead"),
            Self::Discard => f.write_str("an operator gives up what nobody can read"),
            Self::Prune => f.write_str("what has expired is dropped"),
            Self::Wait { seconds } => write!(f, "{seconds} s pass"),
        }
    }
}
