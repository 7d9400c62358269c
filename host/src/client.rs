//! A client of a coordinator's API, with the identity of a realm directory.

use std::path::Path;

use base64::Engine as _;
use bytes::Bytes;
use hearth_identity::{
    COORDINATOR_NAME, DirError, NodeDir, PeerError, RealmCa, RealmDir, TlsIdentity,
};
use hearth_net::http::client::{Client as Http, ClientLimits, Events, HttpError, UploadSource};
use hearth_net::tls::{Alpn, ClientTls, Endpoint, Identity, TlsError};
use hearth_wire::api::{
    Enrolled, Invitation, InvitationRequest, JobAccepted, JobEvent, JobList, JobStatus, ModeReport,
    NodeList, ReleaseAdded, RenewRequest, ResultPage, ResultsMerged, SubmitJob,
};
use hearth_wire::{
    Digest, InputSet, JobId, OfflineResults, RealmId, Release, ReleaseId, Role, Seq, TaskIndex,
    UnixSeconds, codec, limits,
};
use rustls::pki_types::ServerName;

/// Why a client cannot be made or a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no realm here.
    #[error(
        "{0} is neither a realm nor a joined one; `hearth init` makes a realm, `hearth join` joins one"
    )]
    NoRealm(std::path::PathBuf),
    /// The realm's directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Its certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its certificate authority cannot be used.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The constant name of coordinators is none: a defect.
    #[error("the name {COORDINATOR_NAME} is not a name; report this")]
    Name,
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The inputs cannot be handed over.
    #[error("{0}")]
    Inputs(String),
    /// The coordinator sent an event that is none.
    #[error(
        "the coordinator sent an event that this program does not understand: {0}; update hearth"
    )]
    Event(#[from] serde_json::Error),
}

impl ClientError {
    /// Whether no coordinator can be reached: nobody answers, or whoever does says that it cannot serve
    /// now, as one does that is stopping.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Http(HttpError::Connect(_) | HttpError::Lost(_) | HttpError::Timeout { .. }) => {
                true
            }
            Self::Http(error) => matches!(error.status(), Some(502..=504)),
            _ => false,
        }
    }
}

/// Jobs in one list: as many as a coordinator gives at once.
pub const JOBS_LISTED: usize = 1_000;

/// Who a client is: what a realm directory holds.
#[derive(Debug)]
pub struct ClientIdentity {
    tls: TlsIdentity,
    ca: RealmCa,
    addresses: Vec<String>,
    /// The realm.
    pub realm: RealmId,
    /// What it may do there.
    pub role: Role,
}

impl ClientIdentity {
    /// Reads the identity in `dir`: the owner's, or that of somebody who joined.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be used.
    pub fn open(dir: &Path, now: UnixSeconds) -> Result<Self, ClientError> {
        if RealmDir::exists(dir) {
            let realm = RealmDir::open(dir)?;
            return Ok(Self {
                tls: realm.admin_tls(now)?,
                ca: realm.authority()?.ca().clone(),
                addresses: realm.addresses().to_vec(),
                realm: realm.realm(),
                role: Role::Admin,
            });
        }
        if !NodeDir::exists(dir) {
            return Err(ClientError::NoRealm(dir.to_owned()));
        }
        let joined = NodeDir::open(dir)?;
        Ok(Self {
            tls: joined.tls(),
            ca: joined.ca().clone(),
            addresses: joined.addresses().to_vec(),
            realm: joined.realm(),
            role: joined.role(),
        })
    }

    /// As [`ClientIdentity::open`], after asking for a new certificate if half of the old one's life is
    /// over. The answer brings the realm's newest policy, so it is asked for as well when the one that is
    /// kept has ended.
    ///
    /// # Errors
    ///
    /// As [`ClientIdentity::open`]. A renewal that fails is logged: the old certificate may still do, and
    /// what comes next says so if it does not.
    pub async fn open_renewed(dir: &Path, now: UnixSeconds) -> Result<Self, ClientError> {
        if !RealmDir::exists(dir) && NodeDir::exists(dir) {
            let mut joined = NodeDir::open(dir)?;
            let due = joined.needs_renewal(now);
            if due || joined.policy_state().check_in_force(now).is_err() {
                match renew(&mut joined, now).await {
                    Ok(()) => tracing::info!("the certificate was renewed"),
                    Err(error) if due => tracing::warn!(%error, "the certificate was not renewed"),
                    Err(error) => tracing::info!(%error, "the policy was not renewed"),
                }
            }
        }
        Self::open(dir, now)
    }

    /// Uses these addresses instead of the ones in the directory.
    pub fn with_addresses(mut self, addresses: Vec<String>) -> Self {
        self.addresses = addresses;
        self
    }
}

/// Asks for a new certificate with the old one, and keeps it.
async fn renew(joined: &mut NodeDir, now: UnixSeconds) -> Result<(), ClientError> {
    let request = RenewRequest {
        certificate_pem: joined.certificate_pem(),
        csr_pem: joined.key().csr_pem().map_err(DirError::from)?,
    };
    let http = Http::tls(
        endpoint(joined.addresses().to_vec())?,
        ClientTls::new(joined.ca().server_verifier(), None)?,
        Alpn::Enrol,
        ClientLimits::default(),
    );
    let enrolled: Enrolled = http.post_json("/renew", &request).await?;
    let policy = base64::engine::general_purpose::STANDARD.decode(&enrolled.policy);
    let policy = policy.map_err(|error| HttpError::Malformed(error.to_string()))?;
    Ok(joined.accept_renewal(&enrolled.certificate_pem, &policy, now)?)
}

/// Where a coordinator is, and who it must be.
fn endpoint(addresses: Vec<String>) -> Result<Endpoint, ClientError> {
    // A constant of our own, which is a name.
    let server_name = ServerName::try_from(COORDINATOR_NAME).map_err(|_| ClientError::Name)?;
    Ok(Endpoint {
        addresses,
        server_name,
    })
}

/// A client of one coordinator. Clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A client with this identity; it connects with its first request.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be used.
    pub fn new(identity: ClientIdentity) -> Result<Self, ClientError> {
        let own = Identity::new(identity.tls.chain, identity.tls.key)?;
        let tls = ClientTls::new(identity.ca.server_verifier(), Some(&own))?;
        let endpoint = endpoint(identity.addresses)?;
        Ok(Self {
            http: Http::tls(endpoint, tls, Alpn::Http, ClientLimits::default()),
        })
    }

    /// Hands over a signed release and its component. Both are kept if they are there already.
    ///
    /// # Errors
    ///
    /// When the coordinator refuses it: unsigned, foreign author, expired, revoked.
    pub async fn add_release(
        &self,
        release: &Release,
        component: Bytes,
    ) -> Result<ReleaseId, ClientError> {
        let digest = Digest::of(&component);
        self.http
            .upload(
                &format!("/v1/blobs/{digest}"),
                UploadSource::Bytes(component),
            )
            .await?;
        let added: ReleaseAdded = self
            .http
            .post_bytes("/v1/releases", codec::encode(release).into())
            .await?;
        Ok(added.release)
    }

    /// Hands over an input set, from memory or a file.
    ///
    /// # Errors
    ///
    /// When the coordinator finds that it is not what `set` says.
    pub async fn add_inputs(
        &self,
        set: &InputSet,
        source: UploadSource,
    ) -> Result<(), ClientError> {
        let media_type = percent(&set.media_type);
        let path = format!(
            "/v1/input-sets/{}?count={}&media_type={media_type}",
            set.root, set.count
        );
        self.http.upload(&path, source).await?;
        Ok(())
    }

    /// Submits a job. When this returns it is durable.
    ///
    /// # Errors
    ///
    /// When the coordinator refuses it.
    pub async fn submit(&self, job: &SubmitJob) -> Result<JobAccepted, ClientError> {
        Ok(self.http.post_json("/v1/jobs", job).await?)
    }

    /// As [`Client::submit`]; nothing of the job is run for a while, because this client brings results
    /// of it ([`Client::bring`]).
    ///
    /// # Errors
    ///
    /// When the coordinator refuses it.
    pub async fn submit_held(&self, job: &SubmitJob) -> Result<JobAccepted, ClientError> {
        Ok(self.http.post_json("/v1/jobs?hold=true", job).await?)
    }

    /// Brings results of a job of one's own that were computed while the realm was away.
    ///
    /// # Errors
    ///
    /// When there is no such job, it is somebody else's, or what is brought is none of its results.
    pub async fn bring(
        &self,
        job: JobId,
        results: &OfflineResults,
    ) -> Result<ResultsMerged, ClientError> {
        let path = format!("/v1/jobs/{job}/offline-results");
        let body = codec::encode(results).into();
        Ok(self.http.post_bytes(&path, body).await?)
    }

    /// Hands over a large output, before the result that names it.
    ///
    /// # Errors
    ///
    /// When the coordinator has no room for it.
    pub async fn add_blob(&self, bytes: Bytes) -> Result<(), ClientError> {
        let path = format!("/v1/blobs/{}", Digest::of(&bytes));
        self.http.upload(&path, UploadSource::Bytes(bytes)).await?;
        Ok(())
    }

    /// How a job stands, as of record `min_seq` or later.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is somebody else's.
    pub async fn job(&self, job: JobId, min_seq: Option<Seq>) -> Result<JobStatus, ClientError> {
        let query = min_seq.map_or_else(String::new, |seq| format!("?min_seq={seq}"));
        Ok(self
            .http
            .get_json(&format!("/v1/jobs/{job}{query}"))
            .await?)
    }

    /// Jobs, the newest first; [`JOBS_LISTED`] at most.
    ///
    /// # Errors
    ///
    /// When the request fails.
    pub async fn jobs(&self) -> Result<JobList, ClientError> {
        let path = format!("/v1/jobs?limit={JOBS_LISTED}");
        Ok(self.http.get_json(&path).await?)
    }

    /// A page of results, from task `from`.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is somebody else's.
    pub async fn results(&self, job: JobId, from: u32) -> Result<ResultPage, ClientError> {
        Ok(self
            .http
            .get_json(&format!("/v1/jobs/{job}/results?from={from}"))
            .await?)
    }

    /// The output of one task.
    ///
    /// # Errors
    ///
    /// When it has none (yet).
    pub async fn output(&self, job: JobId, index: TaskIndex) -> Result<Bytes, ClientError> {
        let path = format!("/v1/jobs/{job}/tasks/{index}/output");
        Ok(self
            .http
            .get_bytes(&path, limits::OUTPUT_BYTES_MAX as usize)
            .await?)
    }

    /// Cancels a job: its open tasks end without a result.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is somebody else's.
    pub async fn cancel(&self, job: JobId) -> Result<JobStatus, ClientError> {
        Ok(self.http.delete_json(&format!("/v1/jobs/{job}")).await?)
    }

    /// What happens to a job, as it happens. The stream ends behind the job's last status; read that far,
    /// its connection serves the next request.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is somebody else's.
    pub async fn events(&self, job: JobId) -> Result<JobEvents, ClientError> {
        let path = format!("/v1/jobs/{job}/events");
        let events = self.http.events(&path, None).await?;
        Ok(JobEvents { events })
    }

    /// All nodes.
    ///
    /// # Errors
    ///
    /// When the request fails.
    pub async fn nodes(&self) -> Result<NodeList, ClientError> {
        Ok(self.http.get_json("/v1/nodes").await?)
    }

    /// Does `action` (`drain` or `revoke`) to a node.
    ///
    /// # Errors
    ///
    /// When there is no such node, or this identity may not.
    pub async fn node_action(&self, node: &str, action: &str) -> Result<(), ClientError> {
        let _: serde_json::Value = self
            .http
            .post_json(
                &format!("/v1/nodes/{node}/{action}"),
                &serde_json::json!({}),
            )
            .await?;
        Ok(())
    }

    /// Where work goes now.
    ///
    /// # Errors
    ///
    /// When the request fails.
    pub async fn modes(&self) -> Result<ModeReport, ClientError> {
        Ok(self.http.get_json("/v1/modes").await?)
    }

    /// A one-time token for somebody to join.
    ///
    /// # Errors
    ///
    /// When this identity may not invite.
    pub async fn invite(&self, role: Role, ttl_seconds: u64) -> Result<String, ClientError> {
        let request = InvitationRequest {
            role: role.to_string(),
            ttl_seconds,
        };
        let invitation: Invitation = self.http.post_json("/v1/invitations", &request).await?;
        Ok(invitation.token)
    }
}

/// Events of a job.
#[derive(Debug)]
pub struct JobEvents {
    events: Events,
}

impl JobEvents {
    /// The next event, `None` when the coordinator ended the stream.
    ///
    /// # Errors
    ///
    /// When the connection is lost or an event is not understood.
    pub async fn next(&mut self) -> Option<Result<JobEvent, ClientError>> {
        let event = self.events.next().await?;
        Some(
            event
                .map_err(ClientError::from)
                .and_then(|event| Ok(serde_json::from_str(&event.data)?)),
        )
    }
}

/// Text for one value of a query (RFC 3986).
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
