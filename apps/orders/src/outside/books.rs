//! What stands in the books of the firms, for those who check what happened.

use serde::{Deserialize, Serialize};

use super::{ChargeEntry, Notice, RefundEntry};

/// All that the firms did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// All charges, declined ones included.
    pub charges: Vec<ChargeEntry>,
    /// All refunds.
    pub refunds: Vec<RefundEntry>,
    /// All that was told.
    pub told: Vec<Notice>,
}
