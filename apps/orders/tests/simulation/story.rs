//! A story is told: its deeds are done life by life, things happen, and in the end all is quiet and adds up.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::AssertUnwindSafe,
    sync::{Arc, Once, atomic::Ordering},
    time::Duration,
};

use factum::{By, Error, FailureClass, ParkedFilter, ParkedState, Prune};
use factum_sim::{Ended, Kind, Story, checks::Broken};
use factum_testkit::{Faults, Gate, MemoryBroker, Quiet, faults::Call};
use orders::platform::{Platform, Role};

use crate::{
    checkers::{self, Evidence},
    deeds::{self, Answer},
    script::{End, Happening, Life, NODES, Script, Trouble},
    world::World,
};

/// What became of a story in which everything holds.
pub(crate) struct Told {
    pub(crate) steps: u64,
    pub(crate) trace: u32,
    pub(crate) commits: u64,
    pub(crate) kinds: BTreeMap<String, Kind>,
    /// How often owners were kept out that had been followed by others, by what they were about to write.
    pub(crate) fenced: BTreeMap<String, u64>,
    /// How many rows were read with a token.
    pub(crate) readings: usize,
    /// What happened, line by line.
    pub(crate) journal: Vec<String>,
    evidence: Evidence,
}

impl Told {
    /// A hash of all that there was to see in the end.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.evidence).hash(&mut hasher);
        hasher.finish()
    }
}

/// What is wrong with a story.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The law that it breaks: two stories that break the same one fail alike.
    pub(crate) law: &'static str,
    /// All laws that it breaks.
    pub(crate) laws: BTreeSet<&'static str>,
    /// What breaks it, line by line.
    pub(crate) found: Vec<String>,
    /// What happened, line by line.
    pub(crate) journal: Vec<String>,
}

/// How long a user waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a life that is killed goes on after the last deed.
const LINGERS: Duration = Duration::from_secs(20);

/// How long what stands still may do so.
const STILL_MAX: Duration = Duration::from_secs(45);

/// How many points a story may pass: the longest pass a tenth of them.
const POINTS_MAX: u64 = 600_000;

/// How many of a life's writes that failed are shown.
const FAILED_MAX: usize = 8;

/// How much of what is wrong is shown.
const FOUND_MAX: usize = 12;

/// Tells a story.
pub(crate) fn tell(script: &Script) -> Result<Told, Box<Failure>> {
    static QUIETER: Once = Once::new();
    // What panics on purpose need not be told of hundreds of times.
    QUIETER.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let planned = panic.payload().downcast_ref::<String>();
            if !planned.is_some_and(|text| text.contains(crate::outside::PANIC)) {
                before(panic);
            }
        }));
    });
    let story = Story::new(script.seed);
    story.points().at_most(POINTS_MAX);
    let world = World::new(&story, script);
    let world = RefCell::new(world);
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| run(script, &story, &world)));
    let mut seen = Evidence::default();
    let broken = match told {
        Ok(Ok(evidence)) => {
            seen = evidence;
            checkers::check(&seen)
        }
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).into()));
            vec![Broken::new("no panic", text.unwrap_or_default())]
        }
    };
    let world = world.into_inner();
    let line = |(at, what): (Duration, String)| format!("{:>10.3} s  {what}", at.as_secs_f64());
    let commits = world.commits();
    let fenced = world.fenced.clone();
    let journal = world.journal.into_iter().map(line).collect();
    let Some(first) = broken.first() else {
        let (steps, trace) = story.points().trace();
        return Ok(Told {
            steps,
            trace,
            commits,
            fenced,
            kinds: story.points().kinds(),
            readings: seen.readings.len(),
            journal,
            evidence: seen,
        });
    };
    let law = first.law;
    let mut found: Vec<_> = broken
        .iter()
        .take(FOUND_MAX)
        .map(ToString::to_string)
        .collect();
    if broken.len() > FOUND_MAX {
        found.push(format!("and {} more", broken.len() - FOUND_MAX));
    }
    Err(Box::new(Failure {
        law,
        laws: broken.iter().map(|broken| broken.law).collect(),
        found,
        journal,
    }))
}

/// What there is to see when a story that goes well has come to rest.
pub(crate) fn evidence(script: &Script) -> Evidence {
    let story = Story::new(script.seed);
    let world = RefCell::new(World::new(&story, script));
    run(script, &story, &world).expect("a story in which nothing goes wrong comes to rest")
}

fn run(script: &Script, story: &Story, world: &RefCell<World>) -> Result<Evidence, Vec<Broken>> {
    let mut found = None;
    let last = script.lives.len().saturating_sub(1);
    for (index, life) in script.lives.iter().enumerate() {
        let points = story.points();
        let crash_at = match life.end {
            End::Point(point) if index < last => Some(point),
            _ => None,
        };
        world
            .borrow_mut()
            .tell(format!("life {} begins", index + 1));
        let faults = Faults::new();
        let ended = story.live(crash_at, || {
            live(script, life, world, &faults, index == last)
        });
        tell_of_failures(&mut world.borrow_mut(), &faults);
        if points.overran() {
            let what = format!("after {POINTS_MAX} points it still goes on");
            return Err(vec![Broken::new("comes to rest", what)]);
        }
        let end = match &ended {
            Ended::Crashed => points.ended_at().unwrap_or_default(),
            Ended::Done(_) => "its own end".into(),
        };
        world
            .borrow_mut()
            .tell(format!("life {} ends at: {end}", index + 1));
        match ended {
            Ended::Done(result) => found = result?,
            Ended::Crashed if index == last => {
                return Err(vec![Broken::new(
                    "comes to rest",
                    "the last life was to go on",
                )]);
            }
            Ended::Crashed => {}
        }
    }
    found.ok_or_else(|| vec![Broken::new("comes to rest", "a story has a last life")])
}

/// What became of the writes of a life that went wrong.
fn tell_of_failures(world: &mut World, faults: &Faults) {
    let mut fenced: BTreeMap<String, u64> = BTreeMap::new();
    let failed = faults.log().into_iter().filter_map(|entry| {
        let answer = entry.answer.filter(|answer| answer != "ok")?;
        let what = entry.operation;
        if answer.starts_with("fenced") {
            let role = what.subject.split(' ').next().unwrap_or_default();
            *fenced.entry(role.to_string()).or_default() += 1;
        }
        Some(format!(
            "  a write of node {} failed: {:?} {}: {answer}",
            what.node, what.call, what.subject
        ))
    });
    let mut count = 0;
    for line in failed {
        count += 1;
        if count <= FAILED_MAX {
            world.tell(line);
        }
    }
    for (role, times) in fenced {
        *world.fenced.entry(role).or_default() += times;
    }
    if count > FAILED_MAX {
        world.tell(format!("  and {} more", count - FAILED_MAX));
    }
}

/// The nodes that run, and what they run on.
struct Scene<'a> {
    world: &'a RefCell<World>,
    broker: Arc<MemoryBroker>,
    faults: Faults,
    nodes: Vec<(&'static str, Platform)>,
}

impl Scene<'_> {
    /// Starts a node, if it doesn't run.
    // Nothing else borrows the world while a node starts: a life is one thing after another.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "only this task borrows the world"
    )]
    async fn join(&mut self, name: &'static str) {
        if self.nodes.iter().any(|(known, _)| *known == name) {
            return;
        }
        let node = self
            .world
            .borrow()
            .node(name, &self.broker, &self.faults)
            .await;
        self.nodes.push((name, node));
    }

    /// The node that is asked, of those that run.
    fn node(&self, number: usize) -> &Platform {
        &self.nodes[number % self.nodes.len()].1
    }

    /// Opens a gate after a while.
    fn opens(gate: Gate, seconds: u64) {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            gate.open();
        });
    }

    async fn happens(&mut self, happening: &Happening) {
        let manners = self.world.borrow().manners.clone();
        self.world.borrow_mut().tell(format!("  {happening}"));
        match *happening {
            Happening::Fault { call, nth, trouble } => {
                let rule = self.faults.at(call).nth(nth);
                match trouble {
                    Trouble::Fails => rule.fails(Error::transient("it is busy")),
                    Trouble::LosesItsAnswer => rule.loses_the_answer(),
                    Trouble::Twice => rule.twice(),
                    Trouble::Swaps => rule.swaps(),
                    Trouble::Waits { seconds } => Self::opens(rule.waits(), seconds),
                }
            }
            Happening::Join(name) => self.join(name).await,
            Happening::Leave { node, crash } => {
                let index = self.nodes.iter().position(|(known, _)| *known == node);
                if let Some(index) = index.filter(|_| self.nodes.len() > 1) {
                    let (_, node) = self.nodes.remove(index);
                    if !crash {
                        node.stop().await;
                    }
                }
            }
            Happening::Pause {
                node,
                role,
                seconds,
            } => {
                let who = role.map_or(node.to_string(), |role| format!("{node}/{role}"));
                Self::opens(self.faults.pause(&who), seconds);
            }
            Happening::Freeze { node, seconds } => {
                Self::opens(self.faults.pause(node), seconds);
                for role in Role::ALL {
                    Self::opens(self.faults.pause(&format!("{node}/{role}")), seconds);
                }
            }
            Happening::Stall {
                node,
                topic,
                seconds,
            } => {
                let rule = self.faults.at(Call::Send).on(node).about(topic);
                Self::opens(rule.waits(), seconds);
            }
            Happening::Jump { seconds } => self.world.borrow().clock.jump(seconds),
            Happening::Slow { milliseconds } => {
                manners.slow.store(milliseconds, Ordering::SeqCst);
            }
            Happening::Panic { nth } => manners.panics.store(nth, Ordering::SeqCst),
            Happening::Rebuild(role, projection) => {
                let by = By::new("the simulation", "it is rebuilt now and then");
                let operator = self.nodes[0].1.service(role).operator();
                // It may meet a fault as everything may: then nothing is rebuilt.
                let asked = operator.rebuild(projection, &by);
                drop(tokio::time::timeout(PATIENCE, asked).await);
            }
            Happening::Redrive => drop(self.mend(Mend::Redrive).await),
            Happening::Discard => drop(self.mend(Mend::Discard).await),
            Happening::Prune => {
                let now = self.world.borrow().env.now();
                let prune = Prune {
                    expired: now,
                    discarded: now,
                };
                for role in Role::ALL {
                    let store = self.nodes[0].1.service(role).store().clone();
                    drop(tokio::time::timeout(PATIENCE, store.prune(prune)).await);
                }
            }
            Happening::Wait { seconds } => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        }
    }

    /// What an operator does about dead letters. Says how many were tried: one whose answer was lost may be mended.
    async fn mend(&self, how: Mend) -> Result<u64, Vec<Broken>> {
        let mut mended = 0;
        for role in Role::ALL {
            let service = self.nodes[0].1.service(role);
            let filter = ParkedFilter {
                state: Some(ParkedState::Dead),
                ..ParkedFilter::default()
            };
            let dead = tokio::time::timeout(PATIENCE, service.store().parked(&filter, 1_000)).await;
            for parked in dead
                .unwrap_or(Ok(Vec::new()))
                .map_err(|error| failed(&error))?
            {
                let class = parked.failure.as_ref().map(|failure| failure.class);
                let poison = class == Some(FailureClass::Poison);
                let operator = service.operator();
                let by = By::new("the simulation", "it was looked at");
                let (id, revision) = (&parked.id, parked.revision);
                // Another node's owner, or a fault, may have been faster.
                let done = async {
                    match how {
                        Mend::Discard | Mend::Finally if poison => {
                            operator.discard(id, revision, &by).await.is_ok()
                        }
                        Mend::Redrive | Mend::Finally => {
                            operator.redrive(id, revision, &by).await.is_ok()
                        }
                        Mend::Discard => false,
                    }
                };
                drop(tokio::time::timeout(PATIENCE, done).await);
                mended += 1;
            }
        }
        Ok(mended)
    }
}

/// What is done about dead letters.
#[derive(Clone, Copy)]
enum Mend {
    /// All are redriven.
    Redrive,
    /// What is poison is given up.
    Discard,
    /// What is poison is given up, the rest is redriven.
    Finally,
}

fn failed(error: &Error) -> Vec<Broken> {
    vec![Broken::new("healthy adapters answer", format!("{error:#}"))]
}

async fn live(
    script: &Script,
    life: &Life,
    world: &RefCell<World>,
    faults: &Faults,
    last: bool,
) -> Result<Option<Evidence>, Vec<Broken>> {
    if let End::Kind(kind, passed) = life.end
        && !last
    {
        world.borrow().points.end_at(kind, passed);
    }
    let manners = world.borrow().manners.clone();
    manners.panics.store(0, Ordering::SeqCst);
    manners.slow.store(0, Ordering::SeqCst);
    let broker = world.borrow().broker();
    let mut scene = Scene {
        world,
        broker,
        faults: faults.clone(),
        nodes: Vec::new(),
    };
    scene.join(NODES[0]).await;
    let mut happenings = life.happenings.iter().peekable();
    for (number, deed) in &script.deeds {
        while let Some((_, happening)) = happenings.next_if(|(before, _)| before <= number) {
            scene.happens(happening).await;
        }
        if world.borrow().answered.contains_key(number) {
            continue;
        }
        do_one(&scene, *number, deed).await?;
    }
    for (_, happening) in happenings {
        scene.happens(happening).await;
    }
    if !last {
        if matches!(life.end, End::Stopped | End::Kind(..)) {
            for (_, node) in &scene.nodes {
                node.stop().await;
            }
        } else {
            tokio::time::sleep(LINGERS).await;
        }
        return Ok(None);
    }
    manners.slow.store(0, Ordering::SeqCst);
    tokio::time::sleep(STILL_MAX).await;
    world.borrow().clock.set_right();
    come_to_rest(&scene).await?;
    let node = &scene.nodes[0].1;
    let evidence = Evidence::gather(script, world, &scene.broker, node).await;
    for (_, node) in &scene.nodes {
        node.stop().await;
    }
    evidence.map(Some).map_err(|error| failed(&error))
}

/// Asks for a deed, notes the answer, and looks at what it did.
async fn do_one(
    scene: &Scene<'_>,
    number: usize,
    deed: &crate::script::Deed,
) -> Result<(), Vec<Broken>> {
    let world = scene.world;
    let mut answer = Answer::Unknown;
    for asked in 0..2 {
        let node = scene.node(number + asked);
        let asking = deeds::ask(node, &scene.broker, world, number, deed);
        // The owner of a commit that stands at a closed gate does not answer: the user gives up for now.
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        let answered = answered.unwrap_or(Ok(Answer::Unknown));
        answer = answered.map_err(|what| vec![Broken::new("commands are answered", what)])?;
        // Who got no answer asks again at once, and some do so who got one.
        let again = matches!(answer, Answer::Unknown) || number % 5 == 1;
        if !again || !deed.has_a_key() {
            break;
        }
    }
    let points = world.borrow().points.clone();
    points.pass("answer", &deeds::name(number)).await;
    let (accepted, token, what) = match answer {
        Answer::Done(token) => (Some(true), token, "done"),
        Answer::Refused => (Some(false), None, "refused"),
        Answer::Unknown => (None, None, "not answered"),
    };
    world
        .borrow_mut()
        .tell(format!("  deed {number}: {deed}: {what}"));
    if let Some(accepted) = accepted {
        world.borrow_mut().answered.insert(number, accepted);
    }
    if let Some(token) = token {
        // By another node than the one that was asked, if there is one.
        let reading = deeds::read(scene.node(number + 1), number, deed, &token);
        if let Ok(read) = tokio::time::timeout(PATIENCE, reading).await {
            let read = read.map_err(|what| vec![Broken::new("queries are answered", what)])?;
            world.borrow_mut().readings.extend(read);
        }
    }
    Ok(())
}

/// Waits until nothing goes on any more. A message that was being tried when one life after another ended is taken
/// for what they died of, and one may have run out of tries: an operator redrives those, and gives up what is poison.
async fn come_to_rest(scene: &Scene<'_>) -> Result<(), Vec<Broken>> {
    let env = scene.world.borrow().env.clone();
    let node = &scene.nodes[0].1;
    let mut quiet = Quiet::new(&env, scene.broker.clone())
        .retries_too()
        .looking(4_000, Duration::from_millis(100));
    for role in Role::ALL {
        quiet = quiet.store(node.service(role).store().clone());
    }
    loop {
        let rest = quiet.run_until_quiet().await;
        rest.map_err(|error| vec![Broken::new("comes to rest", error.to_string())])?;
        if scene.mend(Mend::Finally).await? == 0 {
            return Ok(());
        }
    }
}
