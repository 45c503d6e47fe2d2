//! octroi.billing.v1.BillRunService.

use std::sync::Arc;

use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::bill_run::State as WireState;
use octroi_api::billing::v1::bill_run_service_server::BillRunService;
use octroi_api::r#type::v1::Money;
use octroi_calendar::Month;
use octroi_platform::event::to_proto;
use octroi_platform::name::{ID_RULE, is_id, parse};
use octroi_platform::{Call, Page, Violations, check_request_id};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::domain::account;
use crate::domain::bill_run::{BillRun, State};
use crate::error::Error;

/// Bill runs, and the nudge that sets their worker going.
pub struct BillRunApi {
    /// The use cases.
    pub app: Arc<App>,
    /// Wakes the worker.
    pub wake: Arc<Notify>,
}

#[tonic::async_trait]
impl BillRunService for BillRunApi {
    async fn create_bill_run(
        &self,
        request: Request<pb::CreateBillRunRequest>,
    ) -> Result<Response<pb::BillRun>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let new = new_run(&request, &request_id)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let run = self
            .app
            .create_bill_run(&call, new.id, new.month, new.dry_run, to_wire)
            .await?;
        self.wake.notify_one();
        Ok(Response::new(run))
    }

    async fn get_bill_run(
        &self,
        request: Request<pb::GetBillRunRequest>,
    ) -> Result<Response<pb::BillRun>, Status> {
        let (_, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let id = parse(&request.name, ["billRuns"]).map(|[id]| id);
        let id = violations.check("name", id.ok_or("must be of the form \"billRuns/{id}\""));
        violations.finish()?;
        let run = self.app.get_bill_run(id.unwrap_or_default()).await?;
        Ok(Response::new(to_wire(&run)))
    }

    async fn list_bill_runs(
        &self,
        request: Request<pb::ListBillRunsRequest>,
    ) -> Result<Response<pb::ListBillRunsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            "billRuns",
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        violations.finish()?;
        let runs = self.app.list_bill_runs(&page).await?;
        let (runs, next_page_token) = page.cut(runs, |run| run.id.clone(), |it| to_wire(&it));
        Ok(Response::new(pb::ListBillRunsResponse {
            bill_runs: runs,
            next_page_token,
        }))
    }
}

/// What is asked for, checked.
struct NewRun {
    id: Option<String>,
    month: Month,
    dry_run: bool,
}

fn new_run(request: &pb::CreateBillRunRequest, request_id: &str) -> Result<NewRun, Error> {
    let mut violations = Violations::default();
    check_request_id(request_id, &mut violations);
    let id = Some(request.bill_run_id.clone()).filter(|id| !id.is_empty());
    if id.as_deref().is_some_and(|id| !is_id(id)) {
        violations.add("bill_run_id", ID_RULE);
    }
    let asked = request.bill_run.clone().unwrap_or_default();
    let month = violations.check("bill_run.month", asked.month.parse::<Month>());
    violations.finish()?;
    let month = month.ok_or(Error::MonthNotEnded { month: asked.month })?;
    Ok(NewRun {
        id,
        month,
        dry_run: asked.dry_run,
    })
}

fn to_wire(run: &BillRun) -> pb::BillRun {
    let (state, completed) = match run.state {
        State::Running => (WireState::Running, None),
        State::Completed { at } => (WireState::Completed, Some(at)),
    };
    let failures = run.failures.iter().map(|failure| pb::BillRunFailure {
        account: account::name(&failure.account),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
    });
    pb::BillRun {
        name: run.name(),
        month: run.month.to_string(),
        dry_run: run.dry_run,
        state: state.into(),
        accounts: run.tally.accounts(),
        invoices: run.tally.invoices,
        skipped: run.tally.skipped,
        not_due: run.tally.not_due,
        failed: run.tally.failed,
        failures: failures.collect(),
        totals: run
            .totals
            .iter()
            .map(|total| Money {
                currency_code: total.currency.code().to_owned(),
                amount: total.currency.amount(total.minor),
            })
            .collect(),
        create_time: Some(to_proto(run.created)),
        complete_time: completed.map(to_proto),
    }
}
