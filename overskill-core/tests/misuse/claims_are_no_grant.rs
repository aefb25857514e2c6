use overskill_core::{AppHandle, AppId, Claims, Platform};

async fn open(platform: Platform, claims: Claims, app: AppId) -> overskill_core::Result<AppHandle> {
    platform.open(claims, app).await
}

fn main() {
    let _ = open;
}
