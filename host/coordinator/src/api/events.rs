//! What happens to a job, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures_util::{Stream, stream};
use hearth_wire::JobId;
use hearth_wire::api::{JobEvent, JobState, JobStatus};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::auth::Authority;
use super::extract::{Named, Path};
use super::{Caller, Problem, Shared, jobs};
use crate::shell::Shell;
use crate::views::{Happening, News, State as Shown, reports, result_of_report};

/// The job's status is sent at most this often; counts in between are skipped.
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// Whether the reader still may read is asked at most this often, a change of the policy apart.
const JUDGE_EVERY: Duration = STATUS_EVERY;

/// Between two comments on a quiet stream, so that proxies and clients see that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The follower of one job.
///
/// It holds a place in one bounded channel that all followers share, and nothing else: a reader that
/// falls behind loses events, never memory, and is told to read again.
struct Follower {
    shell: Arc<Shell>,
    job: JobId,
    news: broadcast::Receiver<News>,
    /// When a change of the status is to be told, if there was one.
    due: Option<Instant>,
    told: Instant,
    last: Option<JobStatus>,
    /// Every result of a job that has ended was told, or may have been missed. What is shown runs ahead
    /// of the news: without this, the last status would overtake the last results.
    heard_end: bool,
    /// What a job waits for may change with the policy.
    policy: watch::Receiver<u64>,
    authority: Authority,
    /// When the authority was last looked at.
    judged: Instant,
    over: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn stream(
    State(shell): Shared,
    caller: Caller,
    authority: Authority,
    Path(Named(job)): Path<Named<JobId>>,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let place = Arc::clone(&shell.followers).try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::client(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "too-many-streams",
            "as many event streams are open as this coordinator allows",
            "ask for the status instead, or try again later",
        )
    })?;
    // Listening begins before the first look, so that nothing falls in between.
    let news = shell.views.listen();
    let heard_end = jobs::shown(&shell, &caller, job)?.state != JobState::Open;
    let now = Instant::now();
    let policy = shell.policy_changes.subscribe();
    let follower = Follower {
        shell,
        job,
        news,
        due: Some(now),
        told: now,
        last: None,
        heard_end,
        policy,
        authority,
        judged: now,
        over: false,
        _place: place,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(encode(&event)), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn encode(event: &JobEvent) -> SseEvent {
    let named = SseEvent::default().event(event.word());
    // These types serialise; if one did not, its name would still tell.
    named.json_data(event).unwrap_or_default()
}

impl Follower {
    async fn next(&mut self) -> Option<JobEvent> {
        let mut shutdown = self.shell.shutdown.clone();
        loop {
            if self.over {
                return None;
            }
            let due = self.due;
            let wake = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.requested() => return None,
                news = self.news.recv() => match news {
                    _ if !self.may_go_on(false) => return None,
                    Ok(news) => {
                        if let Some(event) = self.hear(news) {
                            return Some(event);
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        self.shell.metrics.missed_events.add(missed);
                        self.due = Some(Instant::now());
                        self.heard_end = true;
                        return Some(JobEvent::Resync { missed });
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                Ok(()) = self.policy.changed() => {
                    if !self.may_go_on(true) {
                        return None;
                    }
                    self.due.get_or_insert(Instant::now());
                }
                () = wake => {
                    if !self.may_go_on(false) {
                        return None;
                    }
                    if let Some(status) = self.status() {
                        return Some(JobEvent::Job(status));
                    }
                }
            }
        }
    }

    /// Whether the reader would still be admitted.
    fn may_go_on(&mut self, at_once: bool) -> bool {
        let now = Instant::now();
        if at_once || now >= self.judged + JUDGE_EVERY {
            self.judged = now;
            self.over = !self.authority.holds(&self.shell);
        }
        !self.over
    }

    /// The status, if it has changed; the stream ends behind the last one.
    fn status(&mut self) -> Option<JobStatus> {
        self.due = None;
        self.told = Instant::now();
        let status = {
            let state = self.shell.views.read();
            let view = state.jobs.get(&self.job);
            view.map(|view| self.shell.job_status(&state, self.job, view))
        };
        let Some(status) = status else {
            self.over = true;
            return None;
        };
        let ended = status.state != JobState::Open;
        if ended && !self.heard_end {
            return None;
        }
        self.over = ended;
        let same = self.last.as_ref().is_some_and(|last| {
            last.counts == status.counts
                && last.state == status.state
                && last.nodes == status.nodes
                && last.trouble == status.trouble
        });
        if same && !self.over {
            return None;
        }
        self.last = Some(status.clone());
        Some(status)
    }

    fn hear(&mut self, news: News) -> Option<JobEvent> {
        let happening = match news {
            News::Live(event) => {
                let task = match &*event {
                    JobEvent::Progress { task, .. } | JobEvent::Log { task, .. } => *task,
                    _ => return None,
                };
                return (task.job == self.job).then(|| JobEvent::clone(&event));
            }
            News::Happening(happening) => happening,
        };
        let state = self.shell.views.read();
        match happening {
            Happening::Changed(job) => {
                if job == self.job && self.due.is_none() {
                    self.due = Some(self.told + STATUS_EVERY);
                }
                None
            }
            Happening::Ended(job) => {
                if job == self.job {
                    self.heard_end = true;
                    // What everybody waits for.
                    self.due = Some(Instant::now());
                }
                None
            }
            Happening::Leased {
                task,
                attempt,
                node,
            } => (task.job == self.job).then(|| JobEvent::Leased {
                task,
                attempt,
                node: shown_id(&state, node),
            }),
            Happening::Result {
                task,
                record,
                report,
                wall,
                view,
            } => {
                if task.job != self.job {
                    return None;
                }
                let (reports, engine) = reports(&record.fact)?;
                let report = (reports.get(report)?, engine);
                result_of_report(&state, task, view, report, wall).map(JobEvent::Result)
            }
            Happening::Amended { task, node } => {
                (task.job == self.job).then_some(JobEvent::Amended { task, node })
            }
            Happening::Mode => Some(JobEvent::Mode(state.mode_report())),
        }
    }
}

fn shown_id(state: &Shown, node: hearth_wire::NodeId) -> String {
    let view = state.nodes.get(node);
    view.map_or_else(|| node.to_string(), |view| view.shown_id())
}
