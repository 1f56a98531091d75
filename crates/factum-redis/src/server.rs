//! What kind of server answers: its version, who it is, and what it does with its keys.

use factum_core::Error;

/// The oldest version that is known to do what the scripts ask for.
const MAJOR_MIN: u32 = 7;

/// A server, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Changes when it is started again, and when it becomes another's replica or a master: from then on it may hold an
    /// earlier state. `None` when it doesn't say.
    pub(crate) life: Option<String>,
    /// What a person should know about its settings.
    pub(crate) remarks: Vec<String>,
}

impl Server {
    /// Reads the answer to `INFO`.
    ///
    /// # Errors
    ///
    /// Class fatal when it is too old.
    pub(crate) fn parse(server: &str, info: &str) -> Result<Self, Error> {
        let field = |name: &str| {
            let of = |line: &str| {
                let (known, value) = line.split_once(':')?;
                (known == name).then(|| value.trim().to_string())
            };
            info.lines().find_map(of)
        };
        let is = |name: &str, value: &str| field(name).as_deref() == Some(value);
        let version = field("redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|text| text.parse().ok());
        if major.is_some_and(|major: u32| major < MAJOR_MIN) {
            return Err(Error::fatal(format!(
                "Redis at `{server}` is version {version}, and {MAJOR_MIN} or newer is needed"
            )));
        }
        let mut remarks = Vec::new();
        if let Some(policy) = field("maxmemory_policy").filter(|policy| policy != "noeviction") {
            remarks.push(format!(
                "Redis at `{server}` has `maxmemory-policy {policy}`: when its memory is full it may drop keys of views, which \
                 are then built anew, again and again; set `maxmemory-policy noeviction`"
            ));
        }
        if is("role", "slave") {
            remarks.push(format!(
                "Redis at `{server}` is a replica and takes no writes: the address should be its master's"
            ));
        }
        if is("aof_enabled", "0") {
            remarks.push(format!(
                "Redis at `{server}` has `appendonly no`: after a restart views may be minutes old, and catch up, or be gone, \
                 and be built anew; set `appendonly yes`"
            ));
        }
        let life = field("run_id")
            .zip(field("master_replid"))
            .map(|(run, history)| format!("{run}/{history}"));
        Ok(Self { life, remarks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:aa\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n\
        # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nmaster_replid:bb\r\n";

    #[test]
    fn a_server_as_it_should_be_needs_no_words() {
        let server = Server::parse("h:1", INFO).unwrap();
        assert_eq!(server.life.as_deref(), Some("aa/bb"));
        assert!(server.remarks.is_empty());
    }

    #[test]
    fn what_a_person_should_change_is_said_with_the_setting() {
        for (good, bad, word) in [
            ("noeviction", "allkeys-lru", "maxmemory-policy noeviction"),
            ("aof_enabled:1", "aof_enabled:0", "appendonly yes"),
            ("role:master", "role:slave", "replica"),
        ] {
            let server = Server::parse("h:1", &INFO.replace(good, bad)).unwrap();
            assert_eq!(server.remarks.len(), 1, "{bad}");
            assert!(server.remarks[0].contains(word), "{:?}", server.remarks);
        }
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_and_one_that_says_nothing_is_not() {
        let error = Server::parse("h:1", &INFO.replace("7.0.15", "6.2.14")).unwrap_err();
        assert!(
            error.is_fatal() && error.to_string().contains("6.2.14"),
            "{error}"
        );
        assert_eq!(Server::parse("h:1", "").unwrap().life, None);
    }
}
