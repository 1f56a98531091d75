//! A function as a reactor: for rules that only tell what shall happen.

use std::{fmt, marker::PhantomData};

use super::{Reaction, Reactor};
use crate::{Event, Failure, Recorded};

/// The reactor called `name` that does what `react` says.
///
/// The function is pure but for what it tells its [`Reaction`]. A handler that calls the outside world waits for
/// answers: implement [`Reactor`] for it.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Event, EventType, Upcast};
/// # #[derive(Clone, Debug)]
/// # struct OrderShipped;
/// # impl Event for OrderShipped {
/// #     const TOPIC: Option<&'static str> = Some("orders");
/// #     fn types() -> Vec<EventType> { Vec::new() }
/// #     fn upcasts() -> Vec<Upcast> { Vec::new() }
/// #     fn stored_type(&self) -> (&'static str, u32) { ("OrderShipped", 1) }
/// #     fn encode(&self) -> Result<Vec<u8>, serde_json::Error> { Ok(Vec::new()) }
/// #     fn decode(_: &str, _: &[u8]) -> Option<Result<Self, serde_json::Error>> { None }
/// # }
/// use std::time::Duration;
///
/// use factum::{Failure, Reaction, Recorded, reactor};
///
/// /// Three days after an order was shipped, its customer is asked how it was.
/// fn ask(event: &Recorded<OrderShipped>, cx: &mut Reaction) -> Result<(), Failure> {
///     let due = event.timestamp + Duration::from_hours(72);
///     cx.set_timer(format!("ask/{}", event.aggregate_id()?), due, "");
///     Ok(())
/// }
///
/// let asking = reactor("ask", ask);
/// # let _ = asking;
/// ```
pub fn reactor<E, F>(name: &'static str, react: F) -> ReactorFn<E, F>
where
    E: Event,
    F: Fn(&Recorded<E>, &mut Reaction) -> Result<(), Failure> + Send + Sync + 'static,
{
    ReactorFn {
        name,
        react,
        event: PhantomData,
    }
}

/// A function as a reactor. Made by [`reactor`].
#[derive(Clone)]
pub struct ReactorFn<E, F> {
    name: &'static str,
    react: F,
    event: PhantomData<fn(E)>,
}

impl<E, F> Reactor for ReactorFn<E, F>
where
    E: Event,
    F: Fn(&Recorded<E>, &mut Reaction) -> Result<(), Failure> + Send + Sync + 'static,
{
    type Event = E;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn react(&self, event: &Recorded<E>, cx: &mut Reaction) -> Result<(), Failure> {
        (self.react)(event, cx)
    }
}

impl<E, F> fmt::Debug for ReactorFn<E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReactorFn({})", self.name)
    }
}
