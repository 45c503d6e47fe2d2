//! The ledger: append-only.

use octroi_platform::{Rows, Tx, params};

use crate::domain::ledger::Transfer;

/// Queues a transfer.
pub fn post(tx: &mut Tx, transfer: Transfer) {
    tx.write(
        "-- post
         INSERT INTO ledger_transfer (account, id, seller, debit_account, credit_account, amount, currency, kind,
             source, time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            transfer.account,
            transfer.id,
            transfer.seller,
            transfer.debit.as_str(),
            transfer.credit.as_str(),
            transfer.amount,
            transfer.currency.code(),
            transfer.kind.as_str(),
            transfer.source,
            transfer.at,
        ],
        Rows::Exactly(1),
    );
}
