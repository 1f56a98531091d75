//! The pretended notifier: it tells a user something, once for each idempotency key.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Faults, Ledger,
    distant::{Distant, Unanswered},
};
use crate::contracts::{OrderId, UserId};

/// Something that a user is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What makes it safe to send again.
    pub key: String,
    /// Who is told; `None`: whoever placed the order, who is not known here.
    pub user_id: Option<UserId>,
    /// What it is about.
    pub order_id: OrderId,
    /// What is said.
    pub text: String,
}

/// The notifier doesn't answer. Tell it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the notifier doesn't answer: {0}")]
pub struct NotifierDown(String);

/// The notifier. Clones are the same notifier.
#[derive(Clone, Debug)]
pub struct Notifier(Firm);

#[derive(Clone, Debug)]
enum Firm {
    /// In this process.
    Here {
        ledger: Arc<dyn Ledger>,
        faults: Arc<Faults>,
    },
    /// In another one.
    There(Distant),
}

impl Notifier {
    /// The notifier with these books.
    pub fn over(ledger: Arc<dyn Ledger>, faults: Arc<Faults>) -> Self {
        Self(Firm::Here { ledger, faults })
    }

    /// The notifier in another process.
    pub(super) fn at(distant: Distant) -> Self {
        Self(Firm::There(distant))
    }

    /// Tells a user something, unless they were told under this key.
    ///
    /// # Errors
    ///
    /// When it doesn't answer.
    pub async fn tell(&self, notice: &Notice) -> Result<(), NotifierDown> {
        let (ledger, faults) = match &self.0 {
            Firm::Here { ledger, faults } => (ledger, faults),
            Firm::There(distant) => {
                let told = distant.ask::<(), NotifierDown>("/notices", notice).await;
                return told.map_err(|unanswered| match unanswered {
                    Unanswered::Refused(down) => down,
                    Unanswered::Unknown(why) => NotifierDown(why),
                });
            }
        };
        if faults.notifier_is_down() {
            return Err(NotifierDown("it is switched off".into()));
        }
        let entry =
            serde_json::to_string(notice).map_err(|error| NotifierDown(error.to_string()))?;
        ledger
            .enter(&notice.key, entry)
            .await
            .map_err(|error| NotifierDown(error.to_string()))?;
        Ok(())
    }

    /// All that was told by this process, by key.
    ///
    /// # Errors
    ///
    /// When an entry can't be read, or the books are elsewhere: ask for [`Outside::books`](super::Outside::books).
    pub fn told(&self) -> Result<Vec<Notice>, NotifierDown> {
        let Firm::Here { ledger, .. } = &self.0 else {
            return Err(NotifierDown("its books are elsewhere".into()));
        };
        let read = |entry: String| {
            serde_json::from_str(&entry)
                .map_err(|error| NotifierDown(format!("its books can't be read: {error}")))
        };
        ledger
            .entries()
            .into_iter()
            .map(|(_, entry)| read(entry))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Outside;

    #[tokio::test]
    async fn a_user_is_told_once_for_each_key() {
        let outside = Outside::in_memory();
        let notice = |key: &str| Notice {
            key: key.into(),
            user_id: Some("u-1".into()),
            order_id: "o-1".into(),
            text: "shipped".into(),
        };
        for key in ["a", "a", "b"] {
            outside.notifier.tell(&notice(key)).await.unwrap();
        }
        assert_eq!(outside.notifier.told().unwrap(), [notice("a"), notice("b")]);
        outside.faults.set_notifier_down(true);
        assert!(outside.notifier.tell(&notice("c")).await.is_err());
    }
}
