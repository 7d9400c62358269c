//! Single tasks without ceremony: the realm maps their type to a release.

use serde::{Deserialize, Serialize};

use crate::api::text;
use crate::{Priority, Seq, TaskId, TaskType};

/// `POST /v1/tasks`. `V` is any JSON value, `serde_json::Value` for example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest<V> {
    /// The client's own id: posting it again gives the same task.
    #[serde(default = "none")]
    pub id: Option<String>,
    /// Which release runs it, by the realm's table.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What it is about.
    pub data: TaskData<V>,
    /// Its queue.
    #[serde(default)]
    pub priority: Priority,
    /// Ignored: the coordinator's own time counts. Allowed so that a task can be sent back as read.
    #[serde(default = "none")]
    pub submitted_at: Option<String>,
    /// When it must end, ISO 8601.
    #[serde(default = "none")]
    pub deadline: Option<String>,
    /// Ignored: placement is the coordinator's. Allowed so that a task can be sent back as read.
    #[serde(default = "none")]
    pub assigned_node: Option<String>,
}

fn none<T>() -> Option<T> {
    None
}

/// What a task is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskData<V> {
    /// Text goes to the component as it is (`text/plain`) when there is no context; anything else as
    /// the JSON of this object (`application/json`).
    pub content: V,
    /// Whatever helps.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub context: Option<V>,
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessingTask<V> {
    /// `job-7/0`
    #[serde(with = "text")]
    pub id: TaskId,
    /// What it is for.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What it is about.
    pub data: TaskData<V>,
    /// Its queue.
    pub priority: Priority,
    /// When it was submitted, ISO 8601.
    pub submitted_at: String,
    /// When it must end, ISO 8601.
    pub deadline: Option<String>,
    /// The node that works on it, or `local`; `None` while it waits.
    pub assigned_node: Option<String>,
}

/// Answer to [`TaskRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPosted<V> {
    /// The task.
    #[serde(flatten)]
    pub task: ProcessingTask<V>,
    /// Position of its record, for `min_seq`.
    pub seq: Seq,
    /// Whether an earlier request with the same id had made it.
    pub existing: bool,
}
