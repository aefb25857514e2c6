//! Cloudflare Workers for Platforms as a target of overskill: deploys, files in KV and R2, previews at the edge.
