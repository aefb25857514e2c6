use overskill_core::{DeploymentStrategy, DeploymentTarget};
use std::sync::Arc;

fn empty(mut full: DeploymentStrategy) -> DeploymentStrategy {
    full.targets = Vec::<Arc<dyn DeploymentTarget>>::new();
    full
}

fn main() {
    let _ = DeploymentStrategy::default();
    let _ = empty;
}
