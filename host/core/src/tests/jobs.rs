//! Submission, quota, cancellation, deadline.

use hearth_wire::limits;
use hearth_wire::record::{TaskEnd, Verdict};

use super::world::{World, owner, returned, task};
use crate::{Answer, Config, Effect, Holder, JobState, RequestRefusal};

#[test]
fn the_same_key_makes_one_job_and_the_same_answer() {
    let mut world = World::new();
    let release = world.release();
    let mut spec = world.spec(release, 3);
    spec.options.idempotency_key = Some("monday".to_owned());
    let (job, mut seen) = world.submit(spec.clone());
    assert_eq!(seen.told(job).tasks, 3);
    drop(seen);

    let mut again = world.try_submit(spec.clone());
    assert_eq!(again.records, []);
    let Answer::Submitted {
        job: same,
        existing,
        tasks,
        ..
    } = again.done()
    else {
        panic!("another answer");
    };
    assert_eq!((same, existing, tasks), (job, true, 3));
    drop(again);

    // The key asks for something else now; another owner's key is another key.
    let mut changed = spec.clone();
    changed.inputs.count = 4;
    let refusal = world.try_submit(changed).refused();
    assert_eq!(refusal, RequestRefusal::KeyReused(job));
    let mut theirs = spec.clone();
    theirs.owner = owner(2);
    let (second, mut seen) = world.submit(theirs);
    assert_ne!(second, job);
    seen.told(second);
    drop(seen);

    // It outlives the job, and a restart.
    let mut seen = world.cancel(job, None);
    seen.done();
    seen.closed(job);
    drop(seen);
    world.restart();
    let mut again = world.try_submit(spec);
    assert!(
        matches!(again.done(), Answer::Submitted { job: same, existing: true, .. } if same == job)
    );
}

#[test]
fn what_cannot_be_a_job_is_refused_and_leaves_no_trace() {
    let mut world = World::new();
    let (release, revoked) = (world.release(), world.release());
    let request = world.request();
    let mut seen = world.step(crate::Event::ReleaseRevoked {
        request,
        release: revoked,
    });
    seen.done();
    let holder = Holder::Release(revoked);
    seen.expect(Effect::BlobsReleased { holder });
    drop(seen);

    let good = world.spec(release, 1);
    let mut refuse = |change: &dyn Fn(&mut hearth_wire::JobSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        world.try_submit(spec).refused()
    };
    let unknown = hearth_wire::ReleaseId::default();
    assert_eq!(
        refuse(&|spec| spec.release = unknown),
        RequestRefusal::UnknownRelease(unknown)
    );
    assert_eq!(
        refuse(&|spec| spec.release = revoked),
        RequestRefusal::ReleaseRevoked(revoked)
    );
    assert_eq!(
        refuse(&|spec| spec.inputs.count = 0),
        RequestRefusal::EmptyJob
    );
    let (tasks, max) = (limits::TASKS_PER_JOB_MAX + 1, limits::TASKS_PER_JOB_MAX);
    assert_eq!(
        refuse(&|spec| spec.inputs.count = tasks),
        RequestRefusal::TooManyTasks { tasks, max }
    );
    let field = |refusal| match refusal {
        RequestRefusal::BadOption { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(
        field(refuse(&|s| s.options.attempts_max = 0)),
        "attempts_max"
    );
    assert_eq!(
        field(refuse(&|s| s.options.lease_millis = 1)),
        "lease_millis"
    );
    assert_eq!(
        field(refuse(&|s| s.options.deadline_millis = Some(0))),
        "deadline_millis"
    );
    assert_eq!(
        field(refuse(&|s| s.options.locations = vec![String::new()])),
        "locations"
    );
    for text in ["mon\u{1b}]0;day", "mon\nday", "mon\u{202e}day"] {
        let text = || text.to_owned();
        assert_eq!(field(refuse(&|s| s.options.name = text())), "name");
        assert_eq!(
            field(refuse(&|s| s.options.locations = vec![text()])),
            "locations"
        );
        assert_eq!(
            field(refuse(&|s| s.options.idempotency_key = Some(text()))),
            "idempotency_key"
        );
    }
    assert_eq!(world.core.open_tasks(), 0);
}

#[test]
fn an_owner_has_no_more_open_tasks_than_allowed() {
    let mut world = World::with(Config {
        owner_tasks_max: 10,
        mode_hold_millis: 1 << 50,
        ..Config::default()
    });
    let release = world.release();
    let (six, five) = (world.spec(release, 6), world.spec(release, 5));
    let (job, mut seen) = world.submit(six);
    seen.told(job);
    drop(seen);
    let refusal = world.try_submit(five.clone()).refused();
    assert_eq!(refusal, RequestRefusal::OwnerQuota { open: 11, max: 10 });

    // Nobody else's quota is touched, and what ended counts no more.
    let mut theirs = five.clone();
    theirs.owner = owner(2);
    let (second, mut seen) = world.submit(theirs);
    seen.told(second);
    drop(seen);
    let mut seen = world.cancel(job, Some(owner(1)));
    seen.done();
    seen.closed(job);
    drop(seen);
    let (third, mut seen) = world.submit(five);
    seen.told(third);
}

#[test]
fn a_cancelled_job_ends_at_once_and_its_nodes_are_told() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 3);
    let (job, mut seen) = world.submit(spec);
    let grants = seen.grants(&node);
    assert_eq!(grants.len(), 2);
    assert_eq!(seen.told(job).leased, 2);
    drop(seen);
    let mut seen = world.report(&node, &grants[0], returned(1));
    assert_eq!(seen.accepted(&node, &grants[0]), Verdict::Settled);
    let third = seen.grant(&node);
    seen.told(job);
    drop(seen);

    // Another's job is no job.
    let refusal = world.cancel(job, Some(owner(9))).refused();
    assert_eq!(refusal, RequestRefusal::UnknownJob(job));
    let mut seen = world.cancel(job, Some(owner(1)));
    assert!(matches!(seen.done(), Answer::Cancelled { .. }));
    let attempts = [&grants[1], &third].map(|grant| grant.attempt).to_vec();
    let session = node.session;
    seen.expect(Effect::Cancel { session, attempts });
    let progress = seen.closed(job);
    assert_eq!(progress.state, JobState::Ended(TaskEnd::Cancelled));
    assert_eq!(
        (progress.settled, progress.cancelled, progress.leased),
        (1, 2, 0)
    );
    drop(seen);

    // What comes after is answered and changes nothing.
    assert_eq!(world.report(&node, &third, returned(2)).records, []);
    let mut again = world.cancel(job, Some(owner(1)));
    assert_eq!(again.records, []);
    again.done();
}

#[test]
fn a_job_expires_at_its_deadline_and_not_before() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let mut spec = world.spec(release, 2);
    spec.options.deadline_millis = Some(5_000);
    let (job, mut seen) = world.submit(spec);
    let grant = seen.grant(&node);
    assert_eq!(grant.task, task(job, 0));
    seen.told(job);
    drop(seen);
    drop(world.after(4_999));
    let mut seen = world.after(1);
    seen.cancelled(&node, &grant);
    let progress = seen.closed(job);
    assert_eq!(progress.state, JobState::Ended(TaskEnd::Expired));
    assert_eq!((progress.expired, progress.settled), (2, 0));
    drop(seen);
    assert_eq!(world.core.open_tasks(), 0);
}

#[test]
fn a_deadline_survives_a_restart() {
    let mut world = World::new();
    let release = world.release();
    let mut spec = world.spec(release, 1);
    spec.options.deadline_millis = Some(5_000);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    world.restart();
    drop(world.after(4_999));
    assert_eq!(world.live(1).closed(job).expired, 1);
}

#[test]
fn a_revoked_release_ends_its_jobs() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let spec = world.spec(release, 1);
    let (job, grant) = world.lease(spec, &node);
    let request = world.request();
    let mut seen = world.step(crate::Event::ReleaseRevoked { request, release });
    seen.done();
    seen.cancelled(&node, &grant);
    let holder = Holder::Release(release);
    seen.expect(Effect::BlobsReleased { holder });
    let failure = seen.closed(job).state.failure();
    assert_eq!(failure, Some(hearth_wire::record::Failure::ReleaseRevoked));
}
