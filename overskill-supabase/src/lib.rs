//! Tenants of overskill on Supabase and Postgres: validation, row level security that is proven, data.

mod validator;

pub use validator::{
    Jwks, KeySource, Membership, MembershipKeys, Memberships, MemoryMemberships, RefusalLimit, SupabaseValidator,
    SupabaseValidatorBuilder, TokenKeys, TrustedIssuer,
};
