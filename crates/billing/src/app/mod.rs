//! Use cases. Each owns its transaction: it reads and locks, decides in `domain`, writes through `store`, commits.

pub mod account;
pub mod bill_run;
pub mod charge;
pub mod gateway;
pub mod invoice;
pub mod payment;
pub mod payment_method;
pub mod quote;
pub mod seller;
pub mod settlement;
pub mod usage;

use octroi_calendar::Zones;
use octroi_platform::{Clock, Db};

use self::bill_run::Slow;
use self::gateway::Gateway;

/// What every use case works with.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// Business time.
    pub clock: Clock,
    /// Where money comes from.
    pub gateway: Gateway,
    /// Id of the installation's own seller, for accounts that name none.
    pub seller: Option<String>,
    /// The calendar that accounts keep unless they say otherwise.
    pub calendar: Zones,
    /// The account that holds up a bill run.
    pub slow: Slow,
}
