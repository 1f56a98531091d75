//! TLS and users, on a broker with certificates of the tests' own.

use std::time::Duration;

use factum_core::{Broker, Error, Headers, Key, Outgoing, Topic, TopicPartition, TopicSpec};
use factum_kafka::{Kafka, KafkaOptions};
use factum_testkit::Authority;

use crate::{
    server::{PASSWORD, Server, USER},
    support::now,
};

async fn connect(url: &str) -> Result<Kafka, Error> {
    let options = KafkaOptions::parse(url).unwrap();
    Kafka::connect(options.patience(Duration::from_secs(10))).await
}

/// A user, as it is written in an address.
fn user(name: &str, password: &str) -> String {
    let escaped = password
        .replace('%', "%25")
        .replace('@', "%40")
        .replace(':', "%3A");
    format!("{name}:{escaped}")
}

/// What goes in comes out: the admin's client, a producer and a reader are let in too.
async fn works(kafka: &Kafka, name: &str) {
    let topic = Topic::new(name).unwrap();
    let spec = TopicSpec::new(topic.clone(), 1);
    kafka.ensure_topic(&spec).await.unwrap();
    let mut producer = kafka.producer().await.unwrap();
    let message = Outgoing {
        topic: topic.clone(),
        partition: 0,
        key: Some(Key::from("order-1")),
        headers: Headers::new(),
        value: Some("{}".into()),
        timestamp: now(),
    };
    producer.send(vec![(1, message)]).await.unwrap();
    for report in producer.reports().await.unwrap() {
        report.result.unwrap();
    }
    let read = kafka.read(&TopicPartition::new(topic, 0), 0, 10).await;
    assert_eq!(read.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_in_with_what_they_know_or_have_and_nobody_else() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (certificate, key) = servers.sign("localhost");
    let Some(server) = Server::start(&certificate, &key, &clients.certificate) else {
        return;
    };
    let ca = server.put("ca.pem", &servers.certificate);
    let stranger = server.put("stranger.pem", &Authority::new("strangers").certificate);
    let (users, certificates) = (server.users(), server.certificates());
    let alice = user(USER, PASSWORD);

    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let url = format!("kafka://{alice}@{users}?sasl={mechanism}&tls_ca={ca}");
        let kafka = connect(&url).await.unwrap();
        works(&kafka, &format!("as-{mechanism}")).await;

        let mallory = user(USER, "guessed");
        let url = format!("kafka://{mallory}@{users}?sasl={mechanism}&tls_ca={ca}");
        let error = connect(&url).await.unwrap_err();
        assert!(error.is_fatal(), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("the user or the password"), "{said}");
        assert!(!said.contains("guessed"), "{said}");
    }

    // Whoever the server is, it is not believed without an authority that is.
    let url = format!("kafka://{alice}@{users}?sasl=PLAIN&tls_ca={stranger}");
    let error = connect(&url).await.unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains("certificate"),
        "{error:?}"
    );
    // Nor under another name than its own, unless that is asked for.
    let other = users.replace("localhost", "127.0.0.1");
    let url = format!("kafka://{alice}@{other}?sasl=PLAIN&tls_ca={ca}");
    assert!(connect(&url).await.unwrap_err().is_fatal());
    connect(&format!("{url}&tls_name=any")).await.unwrap();

    let (certificate, key) = clients.sign(USER);
    let certificate = server.put("alice.pem", &certificate);
    let key = server.put("alice.key", &key);
    let url = format!("kafka://{certificates}?tls=true&tls_ca={ca}");
    let kafka = connect(&format!("{url}&tls_cert={certificate}&tls_key={key}")).await;
    works(&kafka.unwrap(), "with-a-certificate").await;
    let error = connect(&url).await.unwrap_err();
    assert!(error.is_fatal() || error.is_transient(), "{error:?}");
}
