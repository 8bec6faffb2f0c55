//! Whether a node runs, stands still or is dead. Everything it does passes here.

use super::signal::Signal;

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulse {
    Running,
    Frozen,
    Dead,
}

/// The gate of one node.
pub(super) struct Gate(Signal<Pulse>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Signal::new(Pulse::Running))
    }

    /// Returns when the node runs; never when it is dead: its task stays where it is for ever, as if there were none.
    pub(super) async fn pass(&self) {
        self.0.wait_for(|pulse| pulse == Pulse::Running).await;
    }

    /// Returns when the node is dead.
    pub(super) async fn died(&self) {
        self.0.wait_for(|pulse| pulse == Pulse::Dead).await;
    }

    pub(super) fn kill(&self) {
        self.0.change(|_| Pulse::Dead);
    }

    /// Stands still, or goes on; the dead stay dead.
    pub(super) fn freeze(&self, frozen: bool) {
        let wanted = if frozen { Pulse::Frozen } else { Pulse::Running };
        self.0.change(|pulse| if pulse == Pulse::Dead { pulse } else { wanted });
    }
}
