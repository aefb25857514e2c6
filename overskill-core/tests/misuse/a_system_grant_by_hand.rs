use overskill_core::{Actor, SystemGrant, SystemScopes};

fn forge(real: &SystemGrant) -> SystemGrant {
    SystemGrant { gate: real.gate, actor: Actor::system("me"), scopes: SystemScopes::All.into() }
}

fn main() {
    let _ = forge;
}
