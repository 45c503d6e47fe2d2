//! A month's end: everything that was consumed is invoiced.

use octroi_api::billing::v1::{
    BillRun, CreateBillRunRequest, GetBillRunRequest, ListInvoicesRequest, bill_run,
};
use octroi_platform::time::from_proto;

use super::stage::{ACCOUNT, GROUP, Stage, amount, done, eventually, state};

/// Moves beyond the end of a month and invoices it.
pub(super) async fn close(stage: &mut Stage, month: &str, after: &str) -> anyhow::Result<()> {
    stage.at(after).await?;
    stage.chapter(&format!("The month {month} is invoiced"))?;
    let request = octroi_api::licensing::v1::GetLicenseGroupRequest {
        name: GROUP.to_owned(),
    };
    let answer = stage.api.groups.get_license_group(request).await;
    let group = done("GetLicenseGroup", answer)?;
    let end = group.period_end_time.as_ref().and_then(from_proto);
    if let Some(end) = end {
        let end = stage.show(end);
        stage.report(
            "GetLicenseGroup",
            format!("{}, period ends {end}", state(group.state().as_str_name())),
        )?;
    }
    let request = CreateBillRunRequest {
        bill_run_id: format!("run-{month}"),
        bill_run: Some(BillRun {
            month: month.to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    let run = done(
        "CreateBillRun",
        stage.api.bill_runs.create_bill_run(request).await,
    )?;
    stage.report("CreateBillRun", &run.name)?;
    let run = eventually("the end of the bill run", || {
        let mut bill_runs = stage.api.bill_runs.clone();
        let request = GetBillRunRequest {
            name: run.name.clone(),
        };
        async move {
            let run = done("GetBillRun", bill_runs.get_bill_run(request).await)?;
            Ok((run.state() == bill_run::State::Completed).then_some(run))
        }
    })
    .await?;
    let totals: Vec<String> = run.totals.iter().map(|total| amount(Some(total))).collect();
    anyhow::ensure!(
        run.invoices == 1 && run.failed == 0,
        "the bill run made {} invoices and failed {} times: {:?}",
        run.invoices,
        run.failed,
        run.failures
    );
    stage.report(
        "GetBillRun",
        format!("{} invoice, {}", run.invoices, totals.join(", ")),
    )?;
    let request = ListInvoicesRequest {
        parent: ACCOUNT.to_owned(),
        page_size: 1,
        ..ListInvoicesRequest::default()
    };
    let answer = stage.api.invoices.list_invoices(request).await;
    for invoice in done("ListInvoices", answer)?.invoices {
        let total = amount(invoice.total.as_ref());
        stage.report(
            "ListInvoices",
            format!("{}: {total}, due {}", invoice.number, invoice.due_date),
        )?;
    }
    Ok(())
}
