//! Kafka's errors, sorted by what the caller should do about them.

use factum_core::{Error, ErrorClass};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// What should be done about an error of this code; what is not known here may pass.
pub(crate) fn class(code: Code) -> ErrorClass {
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp => ErrorClass::Poison,
        // A person has to change something: a password, a right, a setting.
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidSessionTimeout
        | Code::InvalidGroupId
        | Code::InconsistentGroupProtocol
        | Code::GroupMaxSizeReached
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedAssignor
        | Code::PolicyViolation
        | Code::FencedInstanceId
        | Code::UnknownTopic
        | Code::UnknownPartition => ErrorClass::Fatal,
        // It was sent, and nobody said what became of it.
        Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::PurgeInflight
        | Code::NotEnoughReplicasAfterAppend => ErrorClass::Unknown,
        _ => ErrorClass::Transient,
    }
}

/// Whether a broker is about to be able to answer: a partition's leader or a group's coordinator was just made, or has
/// just moved.
pub(crate) fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::KafkaStorageError
                | Code::OffsetNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
        )
    )
}

/// An error of class `class`.
pub(crate) fn of(class: ErrorClass, message: String) -> Error {
    match class {
        ErrorClass::Conflict => Error::conflict(message),
        ErrorClass::Fenced => Error::fenced(message),
        ErrorClass::Unknown => Error::unknown(message),
        ErrorClass::Transient => Error::transient(message),
        ErrorClass::Poison => Error::poison(message),
        ErrorClass::Fatal => Error::fatal(message),
    }
}

/// `error`, met while doing `what` (make a topic), as the port's error.
pub(crate) fn sorted(what: &str, error: KafkaError) -> Error {
    let (class, way_out) = match &error {
        // The library refuses a setting, or can't make a client of them.
        KafkaError::ClientConfig(_, why, name, value) => {
            let message =
                format!("failed to {what}: Kafka's client refuses `{name}={value}`: {why}");
            return Error::fatal(message);
        }
        KafkaError::ClientCreation(why) => {
            return Error::fatal(format!(
                "failed to {what}: no client can be made of the settings: {why}"
            ));
        }
        // The life before ends with its session, and then the name is free.
        KafkaError::MessageConsumptionFatal(code @ Code::UnreleasedInstanceId) => {
            (ErrorClass::Transient, way_out(*code))
        }
        KafkaError::MessageConsumptionFatal(code) => (ErrorClass::Fatal, way_out(*code)),
        error => match error.rdkafka_error_code() {
            Some(code) => (class(code), way_out(code)),
            None => (ErrorClass::Transient, ""),
        },
    };
    of(class, format!("failed to {what}{way_out}")).caused_by(error)
}

/// [`sorted`], of a bare code.
pub(crate) fn sorted_code(what: &str, code: Code) -> Error {
    of(class(code), format!("failed to {what}{}", way_out(code))).caused_by(code)
}

/// What a person can do about it, where that can be said.
fn way_out(code: Code) -> &'static str {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            ": the broker refuses the user or the password"
        }
        Code::SSL => {
            ": TLS was not agreed on; look at the certificates, and whether the port speaks TLS"
        }
        Code::UnsupportedSASLMechanism => ": the broker has another SASL mechanism",
        Code::TopicAuthorizationFailed => ": the user may not do that with the topic; grant it",
        Code::GroupAuthorizationFailed => ": the user may not be in the group; grant it",
        Code::ClusterAuthorizationFailed => ": the user may not do that in the cluster; grant it",
        Code::InvalidReplicationFactor => {
            ": the cluster has fewer brokers than copies are asked for; ask for fewer"
        }
        Code::InvalidSessionTimeout => {
            ": the broker allows no such session; see its `group.min.session.timeout.ms` and `group.max.session.timeout.ms`"
        }
        Code::InconsistentGroupProtocol => {
            ": other members of the group share out partitions in another way; stop them first"
        }
        Code::FencedInstanceId | Code::UnreleasedInstanceId => {
            ": another member of the group has the same instance name; give each its own"
        }
        Code::AllBrokersDown | Code::BrokerTransportFailure => ": no broker can be reached",
        Code::Resolve => ": the broker's name can't be resolved",
        Code::OperationTimedOut | Code::RequestTimedOut => ": no answer came in time",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            ": fewer copies are in step than the topic's `min.insync.replicas` asks for"
        }
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            ": the message is larger than the topic's `max.message.bytes`"
        }
        Code::GaplessGuarantee => ": a message before it was refused",
        Code::PurgeQueue | Code::PurgeInflight => ": a message before it failed",
        _ => "",
    }
}

/// What to do about errors in one line: `consumer.pause(..).doing("pause `orders/0`")?`.
pub(crate) trait Doing<T> {
    /// The error, with what was being done.
    fn doing(self, what: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, KafkaError> {
    fn doing(self, what: &str) -> Result<T, Error> {
        self.map_err(|error| sorted(what, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_has_to_mend_is_fatal_and_says_how() {
        let error = sorted(
            "publish to `orders/0`",
            KafkaError::MessageProduction(Code::TopicAuthorizationFailed),
        );
        assert!(error.is_fatal());
        assert!(error.to_string().contains("grant it"), "{error}");
    }

    #[test]
    fn what_may_have_happened_is_unknown_and_what_is_too_large_poison() {
        assert_eq!(class(Code::MessageTimedOut), ErrorClass::Unknown);
        assert_eq!(class(Code::PurgeQueue), ErrorClass::Transient);
        assert_eq!(class(Code::MessageSizeTooLarge), ErrorClass::Poison);
        assert_eq!(class(Code::AllBrokersDown), ErrorClass::Transient);
    }
}
