//! The worlds that are explored: small ones in each test run, larger ones when asked for.

use factum_core::Start;

use crate::{
    bounds::{Bounds, Consuming, Faults, Publishing},
    mutation::Mutation,
};

const NONE: Faults = Faults {
    take_overs: 0,
    suspicions: 0,
    losses: 0,
    store_failures: 0,
    reorderings: 0,
    backups: 0,
    restores: 0,
    moves: 0,
    releases: 0,
    late_claims: 0,
    crashes: 0,
    failures: 0,
    skips: 0,
    discards: 0,
    retentions: 0,
    forgets: 0,
    rewinds: 0,
    accepts: 0,
};

type Records = &'static [(Option<u32>, &'static str)];

/// All in partition 0, by their keys.
const ABA: Records = &[(Some(0), "a"), (Some(0), "b"), (Some(0), "a")];
const AA: Records = &[(Some(0), "a"), (Some(0), "a")];
const AAA: Records = &[(Some(0), "a"), (Some(0), "a"), (Some(0), "a")];
const AABA: Records = &[
    (Some(0), "a"),
    (Some(0), "a"),
    (Some(0), "b"),
    (Some(0), "a"),
];
/// In two partitions.
const TWO_AND_TWO: Records = &[
    (Some(0), "a"),
    (Some(1), "b"),
    (Some(0), "a"),
    (Some(1), "b"),
];
const THREE_AND_TWO: Records = &[
    (Some(0), "a"),
    (Some(1), "b"),
    (Some(0), "a"),
    (Some(0), "c"),
    (Some(1), "b"),
];
const TWO_AND_ONE: Records = &[(Some(0), "a"), (Some(1), "b"), (Some(0), "a")];
/// One of them goes nowhere.
const WITH_A_PRIVATE_ONE: Records = &[(Some(0), "a"), (None, ""), (Some(1), "b"), (Some(0), "a")];

const PUBLISHING: Bounds = Bounds {
    name: "publishing",
    records: TWO_AND_TWO,
    partitions: 2,
    publishing: Publishing::Relay,
    consuming: None,
    start: Start::Beginning,
    faults: NONE,
    incidents: false,
    mutation: None,
    harm_only: false,
};

const CONSUMING: Consuming = Consuming {
    ahead: 3,
    concurrency: 3,
    room: 9,
    crashes_max: 9,
    lanes_known: 9,
    slow: false,
};

/// How a topic may look that has all records, and at most one message too many: a duplicate, or one that came too early.
pub(crate) fn with_one_more(records: u8) -> Vec<Vec<Option<u8>>> {
    let plain: Vec<_> = (0..records).map(Some).collect();
    let mut contents = vec![plain.clone()];
    for place in 0..plain.len() {
        for fact in 0..records {
            let mut content = plain.clone();
            content.insert(place, Some(fact));
            contents.push(content);
        }
    }
    contents.sort();
    contents.dedup();
    contents
}

fn plain(records: u8) -> Publishing {
    Publishing::There(vec![(0..records).map(Some).collect()])
}

/// Relays that publish to a consumer which handles each message at once.
pub(crate) fn publishing(deep: bool) -> Vec<Bounds> {
    let mut all = vec![
        Bounds {
            faults: Faults {
                take_overs: 1,
                suspicions: 1,
                losses: 1,
                ..NONE
            },
            ..PUBLISHING
        },
        Bounds {
            records: TWO_AND_ONE,
            faults: Faults {
                take_overs: 2,
                losses: 1,
                ..NONE
            },
            ..PUBLISHING
        },
        Bounds {
            name: "publishing, one record private",
            records: WITH_A_PRIVATE_ONE,
            faults: Faults {
                take_overs: 1,
                losses: 1,
                store_failures: 1,
                ..NONE
            },
            ..PUBLISHING
        },
        Bounds {
            records: THREE_AND_TWO,
            faults: Faults {
                losses: 2,
                suspicions: 1,
                ..NONE
            },
            ..PUBLISHING
        },
        Bounds {
            records: AAA,
            partitions: 1,
            faults: Faults {
                take_overs: 1,
                losses: 1,
                reorderings: 1,
                ..NONE
            },
            ..PUBLISHING
        },
    ];
    if deep {
        all.push(Bounds {
            faults: Faults {
                take_overs: 2,
                suspicions: 1,
                losses: 1,
                ..NONE
            },
            ..PUBLISHING
        });
    }
    all
}

pub(crate) fn middle(deep: bool) -> Vec<Bounds> {
    let anchored = Bounds {
        name: "a group that starts in the middle",
        start: Start::Anchor,
        ..PUBLISHING
    };
    let mut all = vec![
        Bounds {
            faults: Faults {
                take_overs: 1,
                losses: 1,
                ..NONE
            },
            ..anchored.clone()
        },
        Bounds {
            records: AAA,
            partitions: 1,
            publishing: Publishing::GrowingLog,
            faults: Faults {
                take_overs: 1,
                losses: 1,
                suspicions: 1,
                ..NONE
            },
            ..anchored.clone()
        },
    ];
    if deep {
        all.push(Bounds {
            faults: Faults {
                take_overs: 2,
                losses: 1,
                ..NONE
            },
            ..anchored
        });
    }
    all
}

pub(crate) fn restore(deep: bool) -> Vec<Bounds> {
    let restored = Bounds {
        name: "a restored source",
        partitions: 1,
        publishing: Publishing::GrowingLog,
        ..PUBLISHING
    };
    let mut all = vec![
        Bounds {
            records: AAA,
            faults: Faults {
                backups: 1,
                restores: 1,
                losses: 1,
                ..NONE
            },
            ..restored.clone()
        },
        Bounds {
            records: AA,
            faults: Faults {
                backups: 1,
                restores: 1,
                take_overs: 1,
                losses: 1,
                ..NONE
            },
            ..restored.clone()
        },
        Bounds {
            records: AA,
            faults: Faults {
                backups: 1,
                restores: 2,
                ..NONE
            },
            ..restored.clone()
        },
    ];
    if deep {
        all.push(Bounds {
            records: AAA,
            faults: Faults {
                backups: 1,
                restores: 1,
                take_overs: 1,
                losses: 1,
                ..NONE
            },
            ..restored
        });
    }
    all
}

pub(crate) fn consuming(deep: bool) -> Vec<Bounds> {
    let consuming = Bounds {
        name: "consuming",
        records: AABA,
        partitions: 1,
        consuming: Some(CONSUMING),
        ..PUBLISHING
    };
    let narrow = Some(Consuming {
        ahead: 2,
        ..CONSUMING
    });
    let mut all = vec![
        Bounds {
            records: ABA,
            publishing: Publishing::There(with_one_more(3)),
            faults: Faults {
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            publishing: plain(4),
            faults: Faults {
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            records: ABA,
            publishing: plain(3),
            consuming: narrow,
            faults: Faults {
                moves: 1,
                late_claims: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            records: ABA,
            publishing: plain(3),
            consuming: narrow,
            faults: Faults {
                moves: 1,
                crashes: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, 1 lane, room for 1 parked",
            records: AAA,
            publishing: plain(3),
            consuming: Some(Consuming {
                room: 1,
                ahead: 2,
                ..CONSUMING
            }),
            faults: Faults {
                moves: 1,
                failures: 2,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, 1 lane",
            records: AAA,
            publishing: plain(3),
            faults: Faults {
                moves: 1,
                failures: 1,
                discards: 1,
                skips: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, 1 lane",
            records: AAA,
            publishing: plain(3),
            faults: Faults {
                moves: 1,
                failures: 3,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, parked lanes not known at the claim",
            records: AAA,
            publishing: plain(3),
            consuming: Some(Consuming {
                lanes_known: 0,
                ..CONSUMING
            }),
            faults: Faults {
                moves: 2,
                failures: 2,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, parked at the second crash",
            records: ABA,
            publishing: plain(3),
            consuming: Some(Consuming {
                crashes_max: 1,
                ..CONSUMING
            }),
            faults: Faults {
                crashes: 2,
                releases: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, answers come late",
            records: ABA,
            publishing: plain(3),
            consuming: Some(Consuming {
                slow: true,
                ..CONSUMING
            }),
            faults: Faults {
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming, a place without a message, retention",
            records: ABA,
            publishing: Publishing::There(vec![vec![Some(0), None, Some(1), Some(2)]]),
            faults: Faults {
                moves: 1,
                retentions: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming foreign messages",
            records: AA,
            publishing: Publishing::Foreign(vec![
                vec![Some(0), Some(0), Some(1)],
                vec![Some(0), Some(1), Some(0)],
            ]),
            faults: Faults {
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
        Bounds {
            name: "consuming foreign messages without keys",
            records: &[(Some(0), ""), (Some(0), "")],
            publishing: Publishing::Foreign(vec![
                vec![Some(0), Some(0), Some(1)],
                vec![Some(0), Some(1), Some(0)],
            ]),
            faults: Faults {
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..consuming.clone()
        },
    ];
    if deep {
        all.push(Bounds {
            publishing: Publishing::There(with_one_more(4)),
            faults: Faults {
                moves: 1,
                failures: 2,
                ..NONE
            },
            ..consuming.clone()
        });
        all.push(Bounds {
            records: ABA,
            publishing: Publishing::There(with_one_more(3)),
            consuming: narrow,
            faults: Faults {
                moves: 1,
                late_claims: 1,
                crashes: 1,
                failures: 1,
                ..NONE
            },
            ..consuming
        });
    }
    all
}

pub(crate) fn together(deep: bool) -> Vec<Bounds> {
    let together = Bounds {
        name: "publishing and consuming",
        records: AA,
        partitions: 1,
        consuming: Some(CONSUMING),
        ..PUBLISHING
    };
    let mut all = vec![
        Bounds {
            faults: Faults {
                suspicions: 1,
                moves: 1,
                failures: 1,
                ..NONE
            },
            ..together.clone()
        },
        Bounds {
            faults: Faults {
                take_overs: 1,
                losses: 1,
                moves: 1,
                ..NONE
            },
            ..together.clone()
        },
    ];
    if deep {
        all.push(Bounds {
            records: ABA,
            faults: Faults {
                take_overs: 1,
                losses: 1,
                moves: 1,
                ..NONE
            },
            ..together
        });
    }
    all
}

/// Messages that come to be missing, and people who mend that.
pub(crate) fn incidents() -> Vec<Bounds> {
    let together = Bounds {
        name: "publishing and consuming, mended by a person",
        records: AAA,
        partitions: 1,
        consuming: Some(CONSUMING),
        incidents: true,
        ..PUBLISHING
    };
    vec![
        Bounds {
            faults: Faults {
                forgets: 1,
                moves: 1,
                ..NONE
            },
            ..together.clone()
        },
        Bounds {
            faults: Faults {
                rewinds: 1,
                moves: 1,
                ..NONE
            },
            ..together.clone()
        },
        Bounds {
            faults: Faults {
                forgets: 1,
                accepts: 1,
                failures: 1,
                ..NONE
            },
            ..together
        },
    ]
}

/// The world in which a mutation is looked for: as small as it can be found in.
pub(crate) fn mutated(mutation: Mutation) -> Bounds {
    use Mutation as M;
    let one = Bounds {
        partitions: 1,
        records: AAA,
        ..PUBLISHING
    };
    let growing = Bounds {
        records: AA,
        publishing: Publishing::GrowingLog,
        ..one.clone()
    };
    let consumed = Bounds {
        publishing: plain(3),
        consuming: Some(CONSUMING),
        ..one.clone()
    };
    let with = |bounds: &Bounds, faults| Bounds {
        faults,
        ..bounds.clone()
    };
    let moved = Faults { moves: 1, ..NONE };
    let failing = Faults {
        failures: 1,
        ..NONE
    };
    let restored = Faults {
        backups: 1,
        restores: 1,
        ..NONE
    };
    let bounds = match mutation {
        M::M4 => with(
            &one,
            Faults {
                losses: 1,
                take_overs: 1,
                ..NONE
            },
        ),
        M::M1 | M::M5 => with(&one, Faults { losses: 1, ..NONE }),
        M::M13 => with(
            &one,
            Faults {
                reorderings: 1,
                ..NONE
            },
        ),
        M::M6 => Bounds {
            records: TWO_AND_ONE,
            partitions: 2,
            ..with(&one, NONE)
        },
        M::M7 | M::M9 => with(&growing, restored),
        M::M8 => Bounds {
            records: AAA,
            ..with(
                &growing,
                Faults {
                    losses: 1,
                    ..restored
                },
            )
        },
        M::M10 => with(
            &growing,
            Faults {
                take_overs: 1,
                ..restored
            },
        ),
        M::M11 => with(
            &growing,
            Faults {
                restores: 2,
                ..restored
            },
        ),
        M::M12 => Bounds {
            start: Start::Anchor,
            ..with(&one, Faults { losses: 1, ..NONE })
        },
        M::M2 | M::M16 => with(&consumed, moved),
        M::M3 | M::M19 => with(&consumed, failing),
        M::M14 | M::M15 => Bounds {
            records: ABA,
            ..with(&consumed, moved)
        },
        M::M17 => Bounds {
            records: AA,
            publishing: Publishing::There(with_one_more(2)),
            ..with(&consumed, NONE)
        },
        M::M18 => Bounds {
            consuming: Some(Consuming {
                lanes_known: 0,
                ..CONSUMING
            }),
            ..with(
                &consumed,
                Faults {
                    moves: 1,
                    failures: 1,
                    ..NONE
                },
            )
        },
        M::M20 => with(
            &consumed,
            Faults {
                failures: 1,
                discards: 1,
                ..NONE
            },
        ),
        M::M21 => with(
            &consumed,
            Faults {
                failures: 1,
                crashes: 1,
                ..NONE
            },
        ),
        M::M22 => middle(false).swap_remove(1),
    };
    Bounds {
        name: "mutated",
        mutation: Some(mutation),
        ..bounds
    }
}
