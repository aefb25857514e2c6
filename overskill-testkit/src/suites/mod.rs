//! The suites, one per seam, and what each one's fixture is.

/// Defines a suite: its list of cases with their rules, and the macro that makes tests of them.
///
/// `$` goes in as the first token, because a macro that defines a macro cannot write one itself. `macro` names the macro,
/// the module below `suites` it stands in, and the module that the macro makes; `in` names modules with the cases.
macro_rules! suite {
    (
        $d:tt
        $(#[$doc:meta])*
        macro $conformance:ident = $module:ident, $mod:ident;
        const $VERSION:ident = $suite:literal, $version:ident;
        fixture $Fixture:ty;
        $(in $cases:ident { $($case:ident: $rule:literal;)+ })+
    ) => {
        #[doc = concat!("The suite `", $suite, "/", stringify!($version), "`, for [`report::run`](crate::report::run).")]
        pub static $VERSION: $crate::suite::Suite<$Fixture> = $crate::suite::Suite {
            name: $suite,
            version: stringify!($version),
            cases: &[$($($crate::suite::Case {
                name: stringify!($case),
                rule: $rule,
                run: |fixture| ::std::boxed::Box::pin($cases::$case(fixture)),
            }),+),+],
        };

        $(#[$doc])*
        ///
        /// How it is used, and what an exception is: see the [crate's documentation](crate).
        ///
        /// # The rules
        ///
        $($(#[doc = concat!("- `", stringify!($case), "`: ", $rule, ".")])+)+
        #[macro_export]
        macro_rules! $conformance {
            ($version, $d fixture:expr $d(, except { $d($d excepted:ident: $d reason:literal),* $d(,)? })? $d(,)?) => {
                mod $mod {
                    #[allow(unused_imports)]
                    use super::*;

                    const EXCEPTIONS: &[$crate::Exception] = &[$d($d($crate::Exception {
                        case: stringify!($d excepted),
                        reason: $d reason,
                    }),*)?];
                    const _: () = $crate::__macro::admit(&$crate::suites::$module::$VERSION, EXCEPTIONS);

                    /// Runs the suite and gathers its outcome, for publishing.
                    #[allow(dead_code, clippy::future_not_send)]
                    pub async fn report(backend: &str) -> $crate::report::Report {
                        let fixture = async || { ($d fixture).await };
                        $crate::report::run(&$crate::suites::$module::$VERSION, backend, EXCEPTIONS, fixture).await
                    }

                    $($(#[test]
                    fn $case() {
                        let suite = &$crate::suites::$module::$VERSION;
                        $crate::__macro::test_case(suite, stringify!($case), EXCEPTIONS, || async { ($d fixture).await });
                    })+)+
                }
            };
            ($d other:ident, $d($d rest:tt)*) => {
                compile_error!(concat!(
                    stringify!($conformance), "! has the version ", stringify!($version), ", not ", stringify!($d other)
                ));
            };
        }
    };
}

pub mod apps;
pub mod audit;
pub(crate) mod base;
pub mod bundles;
pub mod deployments;
pub mod entities;
pub mod env;
pub mod files;
pub mod jobs;
pub mod preview;
pub mod progress;
pub mod routes;
pub mod target;
pub mod tenants;
