use overskill::DeploymentStrategy;

fn main() {
    let _ = DeploymentStrategy::default();
    let _ = DeploymentStrategy { targets: Vec::new() };
}
