//! Reading the results of a job while it runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hearth::client::Client;
use hearth_wire::JobId;
use hearth_wire::api::{JobState, JobStatus, ProcessingResult};

use super::exit::Failure;
use super::jobs::failure;

/// How soon a job is looked at again: at first at once, since many are over soon, then twice as late each
/// time.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(150);
/// Share of the time that reading pages may take: a job of a million tasks is looked at less often.
const REST: u32 = 4;

/// Which results of a job have not been seen.
///
/// Pages come in order of index and tasks end in any order, so what is read again of a page is only
/// what lies between two tasks that are still open; ranges that are done are stepped over, and nothing
/// is read while the counts stand still.
pub(crate) struct Follower<'client> {
    client: &'client Client,
    job: JobId,
    /// Tasks whose result has not been given out.
    missing: BTreeSet<u32>,
    ended: u32,
    /// Between two looks, if they take no time.
    pause: Duration,
    rest: Duration,
}

impl<'client> Follower<'client> {
    /// Follows a job from its first result on.
    pub(crate) fn new(client: &'client Client, job: JobId, tasks: u32) -> Self {
        Self {
            client,
            job,
            missing: (0..tasks).collect(),
            ended: 0,
            pause: LOOK_FIRST,
            rest: LOOK_FIRST,
        }
    }

    /// Follows a job of which some results have been given out.
    pub(crate) fn of(client: &'client Client, job: JobId, missing: BTreeSet<u32>) -> Self {
        Self {
            missing,
            ..Self::new(client, job, 0)
        }
    }

    /// Tasks whose result has not been given out.
    pub(crate) fn missing(&self) -> &BTreeSet<u32> {
        &self.missing
    }

    /// Waits as long as looking again would be a waste.
    pub(crate) async fn rest(&self) {
        tokio::time::sleep(self.rest).await;
    }

    /// One look: gives out what is new, and how the job stands. A result counts as given out when
    /// `each` has returned.
    ///
    /// Only what the coordinator takes counts for how late it is asked again: whoever reads the results may
    /// stand still as long as they like.
    pub(crate) async fn look(
        &mut self,
        mut each: impl AsyncFnMut(&ProcessingResult) -> Result<(), Failure>,
    ) -> Result<JobStatus, Failure> {
        let begun = Instant::now();
        // Whether it succeeds or not.
        self.rest = self.pause;
        self.pause = LOOK.min(self.pause * 2);
        let status = self.client.job(self.job, None).await.map_err(failure)?;
        let mut asked = begun.elapsed();
        let counts = &status.counts;
        let ended = counts.settled + counts.failed + counts.cancelled + counts.expired;
        if ended != self.ended || status.state != JobState::Open {
            asked += self.read(&mut each).await?;
            self.ended = ended;
        }
        self.rest = self.rest.max(asked * REST);
        Ok(status)
    }

    /// Gives out what is new, and how long its pages took to come.
    async fn read(
        &mut self,
        each: &mut impl AsyncFnMut(&ProcessingResult) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        let mut asked = Duration::ZERO;
        let mut from = self.missing.first().copied();
        while let Some(start) = from {
            let begun = Instant::now();
            let page = self
                .client
                .results(self.job, start)
                .await
                .map_err(failure)?;
            asked += begun.elapsed();
            for result in &page.results {
                if result.state.is_terminal() && self.missing.contains(&result.index) {
                    each(result).await?;
                    self.missing.remove(&result.index);
                }
            }
            from = page
                .next
                .and_then(|next| self.missing.range(next..).next().copied());
        }
        Ok(asked)
    }
}
