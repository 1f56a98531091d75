//! The demo: a scripted tour through the real HTTP API, ended by the invariants.
//!
//! It starts a platform of its own, or plays on one that serves. It waits for conditions, each with a limit, and ends
//! with a failure if one does not come about or an invariant is broken.

mod scenes;
mod tour;

use crate::{cli, client::Client, failure::Failure, screen::Screen, server::Server};
use tour::Tour;

/// Plays the tour.
pub(crate) async fn run(options: &cli::Options, demo: &cli::Demo) -> Result<(), Failure> {
    if let Some(target) = &demo.target {
        return play(Client::new(target, &options.tokens)?).await;
    }
    let server = Server::for_a_run(options).await?;
    Screen::say(&format!(
        "A platform was started for this tour, at {}.",
        server.url()
    ));
    let played = play(Client::new(&server.url(), &options.tokens)?).await;
    let stopped = server.stop().await;
    played.and(stopped)
}

async fn play(client: Client) -> Result<(), Failure> {
    let mut tour = Tour::begin(client).await?;
    scenes::happy_path(&mut tour).await?;
    scenes::declined_card(&mut tour).await?;
    scenes::out_of_stock(&mut tour).await?;
    scenes::flaky_gateway(&mut tour).await?;
    scenes::payment_stopped(&mut tour).await?;
    scenes::poison(&mut tour).await?;
    tour.check_invariants().await
}
