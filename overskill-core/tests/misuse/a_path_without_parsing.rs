use overskill_core::{FileStore, Scope};

async fn read(store: &dyn FileStore, scope: &Scope) {
    let _ = store.get(scope, "../../etc/passwd").await;
}

fn main() {
    let _ = read;
}
