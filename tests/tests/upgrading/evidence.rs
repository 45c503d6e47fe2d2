//! The evidence of invoice lines moves from a row a day to arrays beside the line, in batches.

use std::collections::BTreeSet;

use octroi_tests::harness::Earlier;

/// Where it stood.
pub const MOVED: &str = "billing.invoice_line_day";

/// More lines than a batch takes, as one that there is.
const MORE: &str = "
    SET session_replication_role = 'replica';
    CREATE TEMP TABLE model AS SELECT * FROM billing.invoice_line WHERE month IS NOT NULL ORDER BY 1, 2, 3 LIMIT 1;
    INSERT INTO billing.invoice_line
    SELECT (jsonb_populate_record(charge, jsonb_build_object('line', n))).*
    FROM billing.invoice_line AS charge JOIN model USING (account, invoice, line), generate_series(100, 2600) AS n;
    INSERT INTO billing.invoice_line_day
    SELECT account, invoice, n, day, peak, end_of_day, proof.seats
    FROM billing.invoice_line_day AS proof JOIN model USING (account, invoice, line), generate_series(100, 2600) AS n;
    RESET session_replication_role";
/// The second batch fails.
const STOP: &str = "
    CREATE FUNCTION billing.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'killed';
    END $$;
    CREATE TRIGGER stop BEFORE UPDATE ON billing.invoice_line
        FOR EACH ROW WHEN (NEW.line = 1500) EXECUTE FUNCTION billing.stop()";

/// Of each line its days with activity, wherever they stand.
pub async fn days(earlier: &Earlier) -> BTreeSet<String> {
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let there: bool = earlier
        .sql
        .query_one(there, &[&MOVED])
        .await
        .unwrap()
        .get(0);
    let days = if there {
        "SELECT ROW(account, invoice, line, day, peak, end_of_day, seats)::text FROM billing.invoice_line_day"
    } else {
        "SELECT ROW(account, invoice, line, first_day + place::integer - 1, peak, end_of_day, proof.seats)::text
         FROM billing.invoice_line, unnest(peaks, ends_of_day, seats)
             WITH ORDINALITY AS proof (peak, end_of_day, seats, place)
         WHERE proof.seats > 0"
    };
    let rows = earlier.sql.query(days, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// An upgrade that is killed between two batches has kept the first, and goes on after it.
#[tokio::test]
async fn what_is_killed_between_batches_goes_on() {
    let script = include_str!("platform6-licensing6-billing7-notification2.sql");
    let earlier = Earlier::read(script).await;
    earlier.sql.batch_execute(MORE).await.unwrap();
    let before = days(&earlier).await;
    earlier.sql.batch_execute(STOP).await.unwrap();
    let stopped = earlier.tries_to_migrate().await.unwrap_err();
    assert!(stopped.contains("killed"), "{stopped}");
    let moved = "SELECT count(*) FROM billing.invoice_line WHERE first_day IS NOT NULL";
    let moved: i64 = earlier.sql.query_one(moved, &[]).await.unwrap().get(0);
    assert!(
        (900..=1000).contains(&moved),
        "{moved} lines of the first batch"
    );
    earlier
        .sql
        .batch_execute("DROP TRIGGER stop ON billing.invoice_line")
        .await
        .unwrap();
    earlier.migrate().await;
    assert!(days(&earlier).await == before, "the evidence differs");
    let frozen = "UPDATE billing.invoice_line SET seats = peaks";
    let refused = earlier.sql.batch_execute(frozen).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "OC002");
    earlier.drop().await;
}
