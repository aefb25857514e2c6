//! What is asked of a grant of the host's own code.
//!
//! A gate that comes with the grant, for lack of one of the object's own, proves that the grant was asked for and written
//! down at *that* gate and covers the app; not whose gate it is. What keeps a store, a validator or an issuer from other
//! code then is that it was never handed to it.

use overskill_core::{AppId, Error, ErrorKind, Grant, Result, Right, SystemGrant, SystemScopes, TenantGate};

/// What touches all apps needs a grant of this gate for all.
pub(crate) fn permit_all(gate: &TenantGate, grant: &SystemGrant) -> Result<()> {
    // Whether it is of this gate does not depend on the app.
    permit_app(gate, grant, &AppId::derive("any"))?;
    match grant.scopes() {
        SystemScopes::All => Ok(()),
        _ => {
            Err(Error::new(ErrorKind::Denied, "the grant is for some apps, and this touches all")
                .at("supabase", "permit"))
        }
    }
}

/// What is an app's in all its environments needs a grant of this gate for the app.
pub(crate) fn permit_app(gate: &TenantGate, grant: &SystemGrant, app: &AppId) -> Result<()> {
    gate.permit_app(&Grant::from(grant.clone()), app, Right::Operate)
}
