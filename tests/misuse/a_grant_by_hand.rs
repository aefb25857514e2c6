use overskill::{Claims, TenantGrant};

fn forge(claims: Claims) -> TenantGrant {
    TenantGrant { claims: claims.into() }
}

fn main() {
    let _ = forge;
}
