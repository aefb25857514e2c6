use overskill_core::{Claims, TenantGrant};

fn forge(real: &TenantGrant, claims: Claims) -> TenantGrant {
    TenantGrant { gate: real.gate, claims: claims.into() }
}

fn main() {
    let _ = forge;
}
