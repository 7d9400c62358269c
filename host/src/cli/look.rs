//! Looking: nodes and modes.

use hearth_wire::runner::Confinement;

use super::Output;
use super::args::{Global, NodesArgs};
use super::exit::Failure;
use super::jobs::{client, failure};

pub(crate) async fn nodes(
    global: &Global,
    args: &NodesArgs,
    output: Output,
) -> Result<(), Failure> {
    let client = client(global).await?;
    for (node, action) in [(&args.drain, "drain"), (&args.revoke, "revoke")] {
        if let Some(node) = node {
            let node = full_id(&client, node).await?;
            client.node_action(&node, action).await.map_err(failure)?;
        }
    }
    let list = client.nodes().await.map_err(failure)?;
    let rows = list
        .nodes
        .iter()
        .map(|node| {
            vec![
                node.node_id.get(..8).unwrap_or(&node.node_id).to_owned(),
                node.name.clone(),
                node.kind.clone(),
                format!("{:?}", node.status).to_lowercase(),
                format!("{}/{}", node.leases, node.slots),
                node.results.to_string(),
                node.failures.to_string(),
                format!("{:.0}%", node.performance_metrics.cpu_usage),
                format!("{:.1} ms", node.performance_metrics.network_latency),
                node.confinement.as_ref().map_or_else(String::new, walls),
                node.location.clone(),
            ]
        })
        .collect();
    let header = [
        "NODE", "NAME", "KIND", "STATUS", "LEASES", "RESULTS", "FAILURES", "CPU", "LATENCY",
        "WALLS", "LOCATION",
    ];
    output.table(&header, rows, &list)
}

/// The walls around a node's runners: all of them, or those that the system did not give.
fn walls(confinement: &Confinement) -> String {
    let missing: Vec<_> = confinement.missing().collect();
    if missing.is_empty() {
        "all".to_owned()
    } else {
        format!("no {}", missing.join(", no "))
    }
}

/// The one node whose id or name begins as the user typed it.
async fn full_id(client: &hearth::client::Client, typed: &str) -> Result<String, Failure> {
    let list = client.nodes().await.map_err(failure)?;
    let mut found = list
        .nodes
        .iter()
        .filter(|node| node.node_id.starts_with(typed) || node.name == typed);
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node.node_id.clone()),
        (None, _) => Err(Failure::rejected(format!("no node is called {typed:?}"))
            .next("`hearth nodes` lists them")),
        (Some(_), Some(_)) => Err(Failure::rejected(format!(
            "more than one node begins with {typed:?}"
        ))
        .next("give more of the id")),
    }
}

pub(crate) async fn modes(global: &Global, output: Output) -> Result<(), Failure> {
    let report = client(global).await?.modes().await.map_err(failure)?;
    if output.json {
        return output.document(&report);
    }
    output.say(format!(
        "mode {} since {}: {}",
        format!("{:?}", report.mode).to_lowercase(),
        report.since,
        report.reason
    ))?;
    output.say(format!(
        "{} volunteers with {} slots, {} trusted slots; {} tasks queued, {} leased",
        report.volunteers,
        report.volunteer_slots,
        report.trusted_slots,
        report.queued,
        report.leased
    ))?;
    let rows = report
        .switches
        .iter()
        .map(|switch| {
            vec![
                switch.at.clone(),
                format!("{:?}", switch.mode).to_lowercase(),
                switch.reason.clone(),
            ]
        })
        .collect();
    output.table(&["AT", "MODE", "REASON"], rows, &report.switches)
}
