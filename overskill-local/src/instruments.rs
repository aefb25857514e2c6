//! The names of what is measured.

/// Viewers connected to previews.
pub const VIEWERS: &str = "overskill_local_viewers";
/// Requests answered, by what they were for (`preview`, `deployed`, `api`, `list`, `refused`) and the class of the status.
pub const REQUESTS_TOTAL: &str = "overskill_local_requests_total";

/// Tells the installed recorder the meaning of every metric of this crate. A host calls it once, after it installed one.
pub fn describe() {
    metrics::describe_gauge!(VIEWERS, "viewers connected to previews");
    metrics::describe_counter!(REQUESTS_TOTAL, "requests answered, by what they were for and the class of the status");
}
