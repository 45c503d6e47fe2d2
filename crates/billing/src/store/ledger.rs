//! The ledger: append-only.

use octroi_platform::{Rows, Tx, params};

use super::column;
use crate::domain::ledger::Transfer;

/// Queues transfers.
pub fn post(tx: &mut Tx, transfers: &[Transfer]) {
    if transfers.is_empty() {
        return;
    }
    tx.write(
        "-- post
         INSERT INTO ledger_transfer (account, id, seller, debit_account, credit_account, amount, currency, kind,
             source, time)
         SELECT * FROM unnest(
             $1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
             $9::text[], $10::timestamptz[]
         )",
        params![
            column(transfers, |of| of.account.clone()),
            column(transfers, |of| of.id),
            column(transfers, |of| of.seller.clone()),
            column(transfers, |of| of.debit.as_str()),
            column(transfers, |of| of.credit.as_str()),
            column(transfers, |of| of.amount),
            column(transfers, |of| of.currency.code()),
            column(transfers, |of| of.kind.as_str()),
            column(transfers, |of| of.source.clone()),
            column(transfers, |of| of.at),
        ],
        Rows::Exactly(transfers.len() as u64),
    );
}
