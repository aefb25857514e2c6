use overskill::{Actor, SystemGrant, SystemScopes};

fn main() {
    let _ = SystemGrant { actor: Actor::system("me"), scopes: SystemScopes::All.into() };
}
