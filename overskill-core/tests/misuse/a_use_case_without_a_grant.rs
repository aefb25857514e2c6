use overskill_core::{AppRecord, Platform};

async fn add(platform: Platform, record: AppRecord) {
    platform.put_app(&record).await.unwrap();
}

fn main() {
    let _ = add;
}
