use overskill::{AppHandle, AppId, Claims, Platform};

async fn open(platform: Platform, claims: Claims, app: AppId) -> overskill::Result<AppHandle> {
    platform.open(claims, app).await
}

fn main() {
    let _ = open;
}
