//! Tenants of overskill on Supabase and Postgres: validation, row level security that is proven, data.
