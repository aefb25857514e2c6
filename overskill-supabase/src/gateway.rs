//! The Edge Function in front of all apps' data.

use crate::management::FunctionBundle;

/// The gateway, ready to be [deployed](crate::Management::deploy_function): one function for all apps, `/api/entities`,
/// `/api/storage` and `/api/realtime`.
///
/// It checks an app's token and passes the call on with that token and the publishable key, so row level security decides;
/// a key that could do more is not within its reach. Which app is served, the token alone
/// says; a path that ends in `/apps/{app}/{environment}` before `/api/` is for tokens of that app alone, 401 or 403 otherwise.
///
/// It reads three secrets: `OVERSKILL_PUBLISHABLE_KEY`, `OVERSKILL_ISSUER` and `OVERSKILL_JWKS` (the
/// [`jwks`](crate::TokenIssuer::jwks) of the tokens, as JSON); they name nothing that may not be known. `PostgREST` has to
/// expose the schema `overskill_data`. [`Supabase::install`](crate::Supabase::install) does all that.
///
/// Files are in the bucket `apps`, each app's in `{app}/{environment}/`, and channels are `app:{app}:{environment}:…`, to be
/// joined as private ones: the [schema](crate::Schema::install) has policies for both.
///
/// Records are served by the same [protocol](overskill_core::entities) as everywhere else; their ids are random here, and
/// their times the database's. An app that was [moved](crate::Mover) to a schema of its own is served alike. The records of
/// one that was moved to another project's database are not: calls of its `/api/entities` are answered 421, for its platform
/// serves them. While an app is being moved, writes are answered 503 with `retry-after`. A move takes neither files nor
/// channels along: they are served here as before.
///
/// Whoever lost access is told so: 401 when the context in the token does not hold any more, because its
/// [session](crate::Session::of_token) was revoked or its key is gone, and 403 when the app is suspended.
pub fn gateway_function() -> FunctionBundle {
    let files = [
        ("answers.ts", include_str!("../functions/gateway/answers.ts")),
        ("entities.ts", include_str!("../functions/gateway/entities.ts")),
        ("gateway.ts", include_str!("../functions/gateway/gateway.ts")),
        ("index.ts", include_str!("../functions/gateway/index.ts")),
        ("storage.ts", include_str!("../functions/gateway/storage.ts")),
        ("token.ts", include_str!("../functions/gateway/token.ts")),
    ];
    let bundle = FunctionBundle::new("gateway", "index.ts");
    let bundle = files.into_iter().fold(bundle, |bundle, (path, text)| bundle.and_then(|it| it.file(path, text)));
    bundle.expect("names of our own files are legal")
}
