//! The portal: what can be installed, and the rows that it leaves behind.

use std::sync::Arc;

use jiff::Timestamp;
use octroi_platform::{Call, Db, Error};
use tokio_util::sync::CancellationToken;

use crate::app::password::Hasher;
use crate::app::session::{Use, admit};
use crate::domain::device::Platform;
use crate::domain::portal::{Installer, Language, installer};
use crate::refusal;
use crate::store;
use crate::store::session::Key;

/// How many rows of each kind are deleted in one transaction.
const SWEEP: i64 = 1000;

/// What users do on the portal.
#[derive(Clone)]
pub(crate) struct Portal {
    pub(crate) db: Db,
    pub(crate) hasher: Arc<Hasher>,
}

impl Portal {
    /// An installer for every platform, and the applications that the licence includes.
    pub(crate) async fn list_installers(
        &self,
        call: &Call,
        key: &Key,
    ) -> Result<(Vec<Installer>, Vec<String>), Error> {
        let read = store::session::with_applications(&self.db, key, call.now).await?;
        let (visit, applications, locale) = read.ok_or_else(refusal::session_invalid)?;
        admit(Some(visit), call.now, Use::Portal)?;
        let language = Language::of(locale.as_deref().unwrap_or_default());
        let installers = Platform::ALL.map(|platform| installer(platform, language));
        Ok((installers.to_vec(), applications))
    }

    /// Deletes ended sessions and forgotten failures, batch by batch, until none is left or the service stops; answers how
    /// many. Each batch begins where the last one ended: before it lies what is deleted, and is still in the index.
    pub(crate) async fn sweep(
        &self,
        now: Timestamp,
        shutdown: &CancellationToken,
    ) -> Result<u64, Error> {
        let (mut ended, mut over) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let mut done = 0;
        while !shutdown.is_cancelled() {
            let sessions = store::session::ended(&self.db, now, &mut ended, SWEEP).await?;
            let failures = store::throttle::over(&self.db, &mut over, SWEEP).await?;
            let found = sessions.len() + failures.len();
            if found == 0 {
                break;
            }
            let call = Call::background(now, "licensing/sweep-portal");
            let mut tx = self.db.begin_writes(&call).await?;
            for key in sessions {
                store::session::delete_ended(&mut tx, key);
            }
            for key in failures {
                store::throttle::delete_over(&mut tx, key);
            }
            tx.commit_work().await?;
            done += found as u64;
        }
        Ok(done)
    }
}
