//! The pretended card gateway: it charges and refunds, once for each idempotency key.
//!
//! It knows the merchant's reference, the order, and charges each at most once, as real ones can: a second charge for
//! an order under another key is refused, whoever asks for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Faults, Ledger,
    distant::{Distant, Unanswered},
};
use crate::contracts::{Currency, OrderId};

/// A charge that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// What makes it safe to ask again.
    pub key: String,
    /// What it is for.
    pub order_id: OrderId,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// Which card: `card:declined` is always declined, `card:flaky` fails some times before it works, all others
    /// work.
    pub card: String,
}

/// A refund that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// What makes it safe to ask again.
    pub key: String,
    /// What was charged for.
    pub order_id: OrderId,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
}

/// What a charge came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charged {
    /// The money was taken.
    Approved,
    /// The card was declined, for this reason. No money was taken.
    Declined(String),
}

/// Why the gateway does nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayError {
    /// It doesn't answer. Ask again.
    #[error("the card gateway doesn't answer: {0}")]
    Down(String),
    /// It was asked for the same order before, under another key.
    #[error("order `{0}` was brought to the card gateway before, under another idempotency key")]
    Repeated(OrderId),
    /// The key was used before, for something else.
    #[error("idempotency key `{0}` was used at the card gateway for another request")]
    KeyReused(String),
    /// There is no such charge to refund.
    #[error("order `{order_id}` has no charge of {amount} {currency} that could be refunded")]
    NotCharged {
        /// The order.
        order_id: OrderId,
        /// How much was to be refunded.
        amount: u64,
        /// In which currency.
        currency: Currency,
    },
}

impl GatewayError {
    /// Whether to ask again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Down(_))
    }
}

/// A charge in the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeEntry {
    /// The idempotency key.
    pub key: String,
    /// What it is for.
    pub order_id: OrderId,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// What it came to.
    pub outcome: Charged,
}

/// A refund in the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundEntry {
    /// The idempotency key.
    pub key: String,
    /// What was charged for.
    pub order_id: OrderId,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
}

impl From<Unanswered<Self>> for GatewayError {
    fn from(unanswered: Unanswered<Self>) -> Self {
        match unanswered {
            Unanswered::Refused(error) => error,
            Unanswered::Unknown(why) => Self::Down(why),
        }
    }
}

/// The card gateway. Clones are the same gateway.
#[derive(Clone, Debug)]
pub struct Gateway(Firm);

#[derive(Clone, Debug)]
enum Firm {
    /// In this process.
    Here(Desk),
    /// In another one.
    There(Distant),
}

impl Gateway {
    /// The gateway with these books.
    pub fn over(ledger: Arc<dyn Ledger>, faults: Arc<Faults>) -> Self {
        Self(Firm::Here(Desk {
            ledger,
            faults,
            tries: Arc::default(),
        }))
    }

    /// The gateway in another process.
    pub(super) fn at(distant: Distant) -> Self {
        Self(Firm::There(distant))
    }

    /// Charges a card, or says again what the charge came to.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub async fn charge(&self, charge: Charge) -> Result<Charged, GatewayError> {
        match &self.0 {
            Firm::Here(desk) => desk.charge(charge).await,
            Firm::There(distant) => Ok(distant.ask("/charges", &charge).await?),
        }
    }

    /// Gives a charge back, once.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub async fn refund(&self, refund: Refund) -> Result<(), GatewayError> {
        match &self.0 {
            Firm::Here(desk) => desk.refund(refund).await,
            Firm::There(distant) => Ok(distant.ask("/refunds", &refund).await?),
        }
    }

    /// All charges in the books of this process, declined ones included.
    ///
    /// # Errors
    ///
    /// When an entry can't be read, or the books are elsewhere: ask for [`Outside::books`](super::Outside::books).
    pub fn charges(&self) -> Result<Vec<ChargeEntry>, GatewayError> {
        self.desk()?.entries("charge/")
    }

    /// All refunds in the books of this process.
    ///
    /// # Errors
    ///
    /// As [`Gateway::charges`].
    pub fn refunds(&self) -> Result<Vec<RefundEntry>, GatewayError> {
        self.desk()?.entries("refund/")
    }

    fn desk(&self) -> Result<&Desk, GatewayError> {
        match &self.0 {
            Firm::Here(desk) => Ok(desk),
            Firm::There(_) => Err(GatewayError::Down("its books are elsewhere".into())),
        }
    }
}

/// Where the gateway's work is done.
#[derive(Clone, Debug)]
struct Desk {
    ledger: Arc<dyn Ledger>,
    faults: Arc<Faults>,
    /// How often a flaky card has failed, by key; it is forgotten when the card works.
    tries: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Desk {
    async fn charge(&self, charge: Charge) -> Result<Charged, GatewayError> {
        let Charge {
            key,
            order_id,
            amount,
            currency,
            card,
        } = charge;
        self.answers(&key, &card)?;
        let outcome = match card.as_str() {
            "card:declined" => Charged::Declined("the card was declined".into()),
            _ => Charged::Approved,
        };
        let entry = ChargeEntry {
            key,
            order_id,
            amount,
            currency,
            outcome,
        };
        let standing: ChargeEntry = self.enter(&charge_key(&entry.order_id), &entry).await?;
        if standing.key != entry.key {
            return Err(GatewayError::Repeated(entry.order_id));
        }
        if (standing.amount, &standing.currency) != (entry.amount, &entry.currency) {
            return Err(GatewayError::KeyReused(entry.key));
        }
        Ok(standing.outcome)
    }

    async fn refund(&self, refund: Refund) -> Result<(), GatewayError> {
        let Refund {
            key,
            order_id,
            amount,
            currency,
        } = refund;
        self.answers(&key, "")?;
        let charged = self.ledger.entry(&charge_key(&order_id));
        let charged = charged
            .map(|charge| read::<ChargeEntry>(&charge))
            .transpose()?;
        let fits = |charge: &ChargeEntry| {
            charge.outcome == Charged::Approved
                && (charge.amount, &charge.currency) == (amount, &currency)
        };
        if !charged.as_ref().is_some_and(fits) {
            return Err(GatewayError::NotCharged {
                order_id,
                amount,
                currency,
            });
        }
        let entry = RefundEntry {
            key,
            order_id,
            amount,
            currency,
        };
        let standing: RefundEntry = self
            .enter(&format!("refund/{}", entry.order_id), &entry)
            .await?;
        if standing.key != entry.key {
            return Err(GatewayError::Repeated(entry.order_id));
        }
        Ok(())
    }

    fn entries<E: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<E>, GatewayError> {
        let entries = self
            .ledger
            .entries()
            .into_iter()
            .filter(|(key, _)| key.starts_with(prefix));
        entries.map(|(_, entry)| read(&entry)).collect()
    }

    fn answers(&self, key: &str, card: &str) -> Result<(), GatewayError> {
        if self.faults.gateway_is_down() {
            return Err(GatewayError::Down("it is switched off".into()));
        }
        if card == "card:flaky" {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            let failed = tries.entry(key.into()).or_default();
            if *failed < self.faults.flaky_tries() {
                *failed += 1;
                return Err(GatewayError::Down(format!(
                    "the line broke (failure {failed})"
                )));
            }
            tries.remove(key);
        }
        Ok(())
    }

    async fn enter<E: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        entry: &E,
    ) -> Result<E, GatewayError> {
        let down = |error: &dyn std::fmt::Display| GatewayError::Down(error.to_string());
        let entry = serde_json::to_string(entry).map_err(|error| down(&error))?;
        let standing = self
            .ledger
            .enter(key, entry)
            .await
            .map_err(|error| down(&error))?;
        read(&standing)
    }
}

/// One charge stands for each order, whatever the idempotency key: the entry says which.
fn charge_key(order_id: &OrderId) -> String {
    format!("charge/{order_id}")
}

fn read<E: DeserializeOwned>(entry: &str) -> Result<E, GatewayError> {
    serde_json::from_str(entry)
        .map_err(|error| GatewayError::Down(format!("its books can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Outside;

    fn charge(key: &str, card: &str) -> Charge {
        let (order_id, currency) = ("o-1".into(), Currency::won());
        Charge {
            key: key.into(),
            order_id,
            amount: 500,
            currency,
            card: card.into(),
        }
    }

    fn refund(amount: u64) -> Refund {
        Refund {
            key: "r".into(),
            order_id: "o-1".into(),
            amount,
            currency: Currency::won(),
        }
    }

    #[tokio::test]
    async fn a_charge_happens_once_however_often_it_is_asked_for() {
        let gateway = Outside::in_memory().gateway;
        for _ in 0..3 {
            assert_eq!(
                gateway.charge(charge("k", "card:ok")).await,
                Ok(Charged::Approved)
            );
        }
        assert_eq!(gateway.charges().unwrap().len(), 1);
        let repeated = gateway.charge(charge("other", "card:ok")).await;
        assert_eq!(repeated, Err(GatewayError::Repeated("o-1".into())));
        let dearer = Charge {
            amount: 501,
            ..charge("k", "card:ok")
        };
        assert_eq!(
            gateway.charge(dearer).await,
            Err(GatewayError::KeyReused("k".into()))
        );
    }

    #[tokio::test]
    async fn a_flaky_card_works_at_the_third_try() {
        let gateway = Outside::in_memory().gateway;
        for _ in 0..2 {
            assert!(
                gateway
                    .charge(charge("k", "card:flaky"))
                    .await
                    .unwrap_err()
                    .is_transient()
            );
        }
        assert_eq!(
            gateway.charge(charge("k", "card:flaky")).await,
            Ok(Charged::Approved)
        );
    }

    #[tokio::test]
    async fn only_what_was_charged_is_refunded_and_once() {
        let gateway = Outside::in_memory().gateway;
        assert!(matches!(
            gateway.refund(refund(500)).await,
            Err(GatewayError::NotCharged { .. })
        ));
        gateway.charge(charge("k", "card:ok")).await.unwrap();
        assert!(matches!(
            gateway.refund(refund(400)).await,
            Err(GatewayError::NotCharged { .. })
        ));
        for _ in 0..2 {
            gateway.refund(refund(500)).await.unwrap();
        }
        assert_eq!(gateway.refunds().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_declined_card_takes_no_money() {
        let gateway = Outside::in_memory().gateway;
        let declined = gateway.charge(charge("k", "card:declined")).await.unwrap();
        assert!(matches!(declined, Charged::Declined(_)));
        assert!(matches!(
            gateway.refund(refund(500)).await,
            Err(GatewayError::NotCharged { .. })
        ));
    }
}
