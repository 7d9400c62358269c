//! One compilation: from the cache if it is there, else in a child of its own.

use std::sync::Arc;

use bytes::Bytes;
use hearth_wire::Digest;
use hearth_wire::limits::{COMPONENT_BYTES_MAX, ERROR_TEXT_BYTES_MAX};
use hearth_wire::runner::{CompileReply, CompileRequest};

use super::ComponentSource;
use super::dispatch::{Alive, Shared};
use super::judge::cut;
use super::launcher::Kind;
use super::link::{read_frame, write_frame};
use super::state::{CompileJob, Compiled};
use crate::artefacts::ArtefactName;

/// A compiler that was killed from outside (by an operator, by the system short of memory) says nothing
/// about the component; one that dies each time does.
const TRIES: u32 = 3;

/// What is said of a compilation that the end of the pool ended.
const CLOSED: &str = "the pool was shut down";

/// Finds or makes an artefact and tells the state.
pub(super) async fn compile(shared: Arc<Shared>, name: ArtefactName, job: CompileJob) {
    let compiled = {
        let _alive = Alive::new(&shared);
        find_or_make(&shared, name, job).await
    };
    if let Compiled::Failed(text) | Compiled::Unfit(text) = &compiled {
        tracing::warn!(%text, "a component was not compiled");
    }
    shared.lock().on_compiled(name, compiled);
    shared.wake.notify_one();
}

async fn find_or_make(shared: &Arc<Shared>, name: ArtefactName, job: CompileJob) -> Compiled {
    if !job.anew {
        let cache = Arc::clone(shared);
        let found = tokio::task::spawn_blocking(move || cache.artefacts.get(&name)).await;
        if let Ok(Some(artefact)) = found {
            return Compiled::Ready(artefact);
        }
    }
    let component = match read(job.component, job.source).await {
        Ok(bytes) => bytes,
        Err(text) => return Compiled::Failed(text),
    };
    let request = CompileRequest {
        component: component.to_vec(),
        imports: job.imports,
        limits: job.limits,
    };
    drop(component);
    let Ok(_permit) = shared.compilers.acquire().await else {
        return Compiled::Failed(CLOSED.to_owned());
    };
    match in_children(shared, &request).await {
        CompileReply::Compiled { artefact } => {
            let artefact = Arc::<[u8]>::from(artefact);
            let (cache, kept) = (Arc::clone(shared), Arc::clone(&artefact));
            let put = tokio::task::spawn_blocking(move || cache.artefacts.put(&name, &kept));
            if let Ok(Err(error)) = put.await {
                tracing::warn!(%error, "an artefact could not be kept; it will be compiled again");
            }
            Compiled::Ready(artefact)
        }
        CompileReply::Unfit(mut text) => {
            cut(&mut text, ERROR_TEXT_BYTES_MAX);
            Compiled::Unfit(text)
        }
        CompileReply::Failed(mut text) => {
            cut(&mut text, ERROR_TEXT_BYTES_MAX);
            Compiled::Failed(text)
        }
    }
}

/// The component's bytes, which must be the ones that were asked for.
async fn read(component: Digest, source: ComponentSource) -> Result<Bytes, String> {
    tokio::task::spawn_blocking(move || {
        let bytes = match source {
            ComponentSource::Bytes(bytes) => bytes,
            ComponentSource::File(path) => {
                let len = std::fs::metadata(&path).map(|meta| meta.len());
                match len {
                    Ok(len) if len > COMPONENT_BYTES_MAX => {
                        return Err(format!("the component has {len} bytes"));
                    }
                    _ => {}
                }
                std::fs::read(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?
                    .into()
            }
        };
        let found = Digest::of(&bytes);
        if found == component {
            Ok(bytes)
        } else {
            Err(format!(
                "the component's bytes are {found}, not {component}"
            ))
        }
    })
    .await
    .unwrap_or_else(|error| Err(error.to_string()))
}

/// The reply of the first child that lives to give one.
async fn in_children(shared: &Shared, request: &CompileRequest) -> CompileReply {
    let mut death = String::new();
    for _ in 0..TRIES {
        match in_child(shared, request).await {
            Ok(reply) => return reply,
            Err(died) => death = died,
        }
        tracing::warn!(death, "compiling again");
    }
    CompileReply::Failed(format!("{death}, {TRIES} times"))
}

/// One request, one reply, one child, within the time; or how the child died.
async fn in_child(shared: &Shared, request: &CompileRequest) -> Result<CompileReply, String> {
    let config = &shared.config;
    let launched = match config.launcher.start(Kind::Compiler, config.nice) {
        Ok(launched) => launched,
        Err(error) => return Ok(CompileReply::Failed(error.to_string())),
    };
    let (mut from, mut to) = launched.socket.into_split();
    let talk = async {
        let mut buffer = Vec::new();
        write_frame(&mut to, request).await?;
        read_frame::<CompileReply>(&mut from, &mut buffer).await
    };
    let mut closing = shared.closing.subscribe();
    let answer = tokio::select! {
        answer = tokio::time::timeout(config.compile_timeout, talk) => Some(answer),
        _ = closing.wait_for(|closing| *closing) => None,
    };
    let kill = !matches!(answer, Some(Ok(Ok(_))));
    drop((from, to));
    let ended = launched.body.end(kill).await;
    let Some(answer) = answer else {
        return Ok(CompileReply::Failed(CLOSED.to_owned()));
    };
    match answer {
        Ok(Ok(reply)) => Ok(reply),
        // It would need as long again each time.
        Ok(Err(_)) if ended.out_of_cpu_time() => Ok(CompileReply::Failed(
            "compiling took all the CPU time that a compile process has".to_owned(),
        )),
        Ok(Err(error)) => Err(format!("the compiler died: {error} ({})", ended.text)),
        Err(_) => Ok(CompileReply::Failed(format!(
            "compiling took longer than {} s",
            config.compile_timeout.as_secs()
        ))),
    }
}
