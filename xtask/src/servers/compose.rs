//! `compose.yaml`, the same servers for people with containers. Nothing here can run it, so its form is checked.

use std::collections::BTreeSet;

use saphyr::{LoadableYamlNode as _, Yaml};

use super::SERVERS;

const COMPOSE: &str = include_str!("../../../compose.yaml");
const POMS: [(&str, &str); 2] = [
    ("kafka", include_str!("../../servers/kafka.pom.xml")),
    (
        "opensearch",
        include_str!("../../servers/opensearch.pom.xml"),
    ),
];

fn services() -> Vec<(String, Yaml<'static>)> {
    let documents = Yaml::load_from_str(COMPOSE).expect("compose.yaml is YAML");
    let [document] = &documents[..] else {
        panic!("compose.yaml is one document");
    };
    let services = document["services"].as_mapping().expect("it has services");
    let named = |(name, service): (&Yaml<'static>, &Yaml<'static>)| {
        (
            name.as_str().expect("a name is a text").to_owned(),
            service.clone(),
        )
    };
    services.iter().map(named).collect()
}

fn text<'a>(service: &'a Yaml<'_>, field: &str) -> &'a str {
    service[field]
        .as_str()
        .unwrap_or_else(|| panic!("`{field}` is a text"))
}

#[test]
fn compose_has_the_servers_of_the_command() {
    let composed: BTreeSet<_> = services().into_iter().map(|(name, _)| name).collect();
    let started = SERVERS
        .iter()
        .map(|server| server.name().to_owned())
        .collect();
    assert_eq!(composed, started);
}

#[test]
fn compose_tells_the_address_of_each_server() {
    for server in SERVERS {
        let (_, service) = services()
            .into_iter()
            .find(|(name, _)| name == server.name())
            .unwrap();
        let [port] = &service["ports"].as_sequence().expect("it has ports")[..] else {
            panic!("{} has one port", server.name());
        };
        let inside = port
            .as_str()
            .and_then(|port| port.strip_prefix("127.0.0.1:"));
        let (outside, inside) = inside
            .and_then(|ports| ports.split_once(':'))
            .expect("it is on loopback");
        assert_eq!(outside, inside);
        let address = server.address(outside.parse().unwrap());
        let export = format!("export {}={address}\n", server.variable());
        assert!(COMPOSE.contains(&export), "compose.yaml lacks `{export}`");
    }
}

#[test]
fn compose_waits_until_each_server_answers() {
    for (name, service) in services() {
        let test = service["healthcheck"]["test"].as_sequence();
        assert!(
            test.is_some_and(|test| test.len() > 1),
            "{name} has no health check"
        );
    }
}

#[test]
fn compose_has_the_versions_of_the_command() {
    for (name, service) in services() {
        let (_, tag) = text(&service, "image")
            .split_once(':')
            .expect("an image has a tag");
        if let Some((_, pom)) = POMS.iter().find(|(known, _)| *known == name) {
            // The runner of OpenSearch adds a number of its own.
            let same = [
                format!("<version>{tag}</version>"),
                format!("<version>{tag}.0</version>"),
            ];
            assert!(
                same.iter().any(|version| pom.contains(version)),
                "{name} {tag}"
            );
        }
    }
}
