//! The harness of the tests. Begin with [`Installation`]: it runs on a clone of a migrated database, and
//! [`Installation::finish`] ends every test alike: the deliveries drained and the stored data verified.

mod billing;
mod caller;
mod citus;
mod coverage;
mod customer;
mod deploy;
mod earlier;
mod installation;
mod mail;
mod mime;
mod postgres;
mod raw;
mod refusal;
mod stock;
mod time;
mod watched;
mod wire;

pub use billing::{Price, amount};
pub use caller::{Caller, Line};
pub use citus::Citus;
pub use coverage::{JOURNEYS, Journey};
pub use customer::{
    BUSINESS, CHOSEN, Customer, ENTERPRISE, account, lines, mailed_password, method, new_group,
    request_id,
};
pub use deploy::{deployed, documented_catalogue, openssl_signs, script};
pub use earlier::{Contents, Earlier, present, written};
pub use installation::{Installation, Options, token};
pub use mail::{Letter, MailServer};
pub use octroi::system::ServiceName;
pub use postgres::Server;
pub use raw::server;
pub use refusal::{Answer, Refused};
pub use stock::{StockClient, late_calls};
pub use time::{at, eventually, instant, within};
pub use watched::Watched;
pub use wire::{Text, Turn, Wire};
