//! octroi.billing.v1.BillRunService.

use std::sync::Arc;

use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::bill_run::State as WireState;
use octroi_api::billing::v1::bill_run_service_server::BillRunService;
use octroi_api::r#type::v1::Money;
use octroi_calendar::Month;
use octroi_platform::name::{ID_RULE, is_id};
use octroi_platform::time::to_proto;
use octroi_platform::{Answer, Fields, Page, answer, command, open};
use tokio::sync::Notify;
use tonic::{Request, Response};

use crate::app::bill_run::BillRuns;
use crate::domain::bill_run::{BillRun, BillRunId, State};

pub(crate) struct BillRunApi {
    pub(crate) bill_runs: BillRuns,
    /// Wakes each worker.
    pub(crate) wake: Vec<Arc<Notify>>,
}

#[tonic::async_trait]
impl BillRunService for BillRunApi {
    async fn create_bill_run(
        &self,
        request: Request<wire::CreateBillRunRequest>,
    ) -> Answer<wire::BillRun> {
        let (call, (id, month, dry_run)) = command(request, new_run)?;
        let created = self.bill_runs.create(&call, id, month, dry_run).await;
        if created.is_ok() {
            self.wake.iter().for_each(|worker| worker.notify_one());
        }
        answer(created)
    }

    async fn get_bill_run(
        &self,
        request: Request<wire::GetBillRunRequest>,
    ) -> Answer<wire::BillRun> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<BillRunId>("name", &it.name)
        })?;
        let run = self.bill_runs.get(&call, &id).await?;
        Ok(Response::new((&run).into()))
    }

    async fn list_bill_runs(
        &self,
        request: Request<wire::ListBillRunsRequest>,
    ) -> Answer<wire::ListBillRunsResponse> {
        let (_, (), page) = Page::open(request, |_, _| Some(()))?;
        let runs = self.bill_runs.list(&page).await?;
        let (bill_runs, next_page_token) = page.cut(runs, |it| it.id.0.clone(), |it| (&it).into());
        Ok(Response::new(wire::ListBillRunsResponse {
            bill_runs,
            next_page_token,
        }))
    }
}

fn new_run(
    it: wire::CreateBillRunRequest,
    fields: &mut Fields<'_>,
) -> Option<(Option<BillRunId>, Month, bool)> {
    let id = Some(it.bill_run_id).filter(|id| !id.is_empty());
    if id.as_deref().is_some_and(|id| !is_id(id)) {
        fields.add("bill_run_id", ID_RULE);
    }
    let run = fields.given("bill_run", it.bill_run);
    let month = fields.check("bill_run.month", run.month.parse())?;
    Some((id.map(BillRunId), month, run.dry_run))
}

impl From<&BillRun> for wire::BillRun {
    fn from(run: &BillRun) -> Self {
        let (state, completed_at) = match run.state {
            State::Running => (WireState::Running, None),
            State::Completed { at } => (WireState::Completed, Some(at)),
        };
        let failures = run.failures.iter().map(|failure| wire::BillRunFailure {
            account: failure.account.to_string(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        });
        let totals = run.totals.iter().map(|total| Money {
            currency_code: total.currency.code().to_owned(),
            amount: total.currency.amount(total.minor),
        });
        Self {
            name: run.id.to_string(),
            month: run.month.to_string(),
            dry_run: run.dry_run,
            state: state.into(),
            accounts: run.tally.accounts(),
            invoices: run.tally.invoices,
            skipped: run.tally.skipped,
            not_due: run.tally.not_due,
            failed: run.tally.failed,
            failures: failures.collect(),
            totals: totals.collect(),
            create_time: Some(to_proto(run.created_at)),
            complete_time: completed_at.map(to_proto),
        }
    }
}
