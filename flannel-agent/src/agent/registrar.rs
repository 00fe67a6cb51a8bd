//! Keeping this node's entry in Kubernetes: its subnets come from there, its annotations go there.

use std::convert::Infallible;

use ipnetwork::IpNetwork;
use tokio::sync::watch;

use crate::{
    backoff::Backoff,
    model::{Attributes, ByFamily, Held, LeaseKey, Node},
    plan,
    report::{Health, Notices},
    source::kube::Nodes,
};

/// Keeps the entry: what [`super::Keeper`] is with etcd.
pub struct Registrar {
    /// The Nodes.
    pub nodes: Nodes,
    /// The networks whose subnets Nodes have.
    pub networks: ByFamily<IpNetwork>,
    /// Whether the condition `NetworkUnavailable` is to be set.
    pub sets_condition: bool,
    /// Tells when the node is ready.
    pub health: Health,
}

/// What is told to whom.
pub struct Channels<'a> {
    /// The own Node, as it is.
    pub node: watch::Receiver<Option<Node>>,
    /// What it should say.
    pub own: watch::Receiver<Attributes>,
    /// The subnets that it has.
    pub held: &'a watch::Sender<Option<Held>>,
}

// === impl Registrar ===

impl Registrar {
    /// Keeps the entry for ever.
    pub async fn run(&mut self, mut channels: Channels<'_>) -> Infallible {
        let mut notices = Notices::default();
        let mut failed = Backoff::default();
        let mut contested = Backoff::default();
        let mut told = None;
        loop {
            let node = channels.node.borrow_and_update().clone();
            let own = channels.own.borrow_and_update().clone();
            let outcome = self
                .bring_in_line(node, &own, channels.held, &mut told)
                .await;
            let again = outcome.is_err();
            match outcome {
                Ok(false) => {
                    notices.clear();
                    failed.reset();
                    contested.reset();
                }
                // Two programs that write the same annotations must not do so as fast as they can.
                Ok(true) => contested.wait().await,
                Err(error) => notices.set([error]),
            }
            // The senders live as long as the agent; without them the others go on.
            tokio::select! {
                Ok(()) = channels.node.changed() => {}
                Ok(()) = channels.own.changed() => {}
                () = self.health.ready(), if self.sets_condition && told.is_none() && !self.health.is_ready() => {}
                () = failed.wait(), if again => {}
            }
        }
    }

    /// Answers whether something was written. `told` is the Node whose condition was set.
    async fn bring_in_line(
        &self,
        node: Option<Node>,
        own: &Attributes,
        held: &watch::Sender<Option<Held>>,
        told: &mut Option<String>,
    ) -> Result<bool, String> {
        let Some(node) = node else {
            return Err(format!(
                "node {} is gone from Kubernetes: what stands in the kernel stays",
                self.nodes.own_name
            ));
        };
        let subnets = node
            .own_subnets(&self.networks)
            .map_err(|error| format!("{error}; waiting until it is so"))?;
        let subnets = Held {
            key: LeaseKey::from(subnets),
            mod_revision: 0,
            reservation: true,
        };
        held.send_if_modified(|held| held.replace(subnets) != Some(subnets));
        let changes = plan::annotation_changes(&node, own);
        if !changes.is_empty() {
            let names: Vec<_> = changes.keys().copied().collect();
            self.nodes.annotate(&changes).await.map_err(again)?;
            tracing::info!(
                "node {}: annotations {} written",
                node.name,
                names.join(", ")
            );
        }
        self.tell_condition(&node, told).await?;
        Ok(!changes.is_empty())
    }

    /// Once for every Node that has had the name, as flannel does: others may have reasons to set it again.
    async fn tell_condition(&self, node: &Node, told: &mut Option<String>) -> Result<(), String> {
        if !self.sets_condition || !self.health.is_ready() || told.as_ref() == Some(&node.uid) {
            return Ok(());
        }
        let is_told = matches!(
            &node.network_unavailable,
            Some((status, reason)) if status == "False" && reason == "FlannelIsUp"
        );
        if !is_told {
            self.nodes.set_network_available().await.map_err(again)?;
            tracing::info!("node {}: NetworkUnavailable is set to False", node.name);
        }
        *told = Some(node.uid.clone());
        Ok(())
    }
}

fn again(error: crate::source::kube::Error) -> String {
    format!("{error}; trying again")
}
