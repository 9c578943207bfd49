//! Messages as they travel: each example in `snapshots/` is read and comes out again as it was. What is running reads
//! what an older version wrote, so an example changes only together with the version of its messages, or by a field
//! that may be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::{
    action, agent, audit, envelope, event, execution, grant, identity, job, legacy, live, metrics,
    order, problem, rate, run, work,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

type Check = fn(&Value) -> Result<Value, serde_json::Error>;

fn again<T: DeserializeOwned + Serialize>(example: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(example.clone())?)
}

macro_rules! room {
    ($($module:ident::$name:ident),+ $(,)?) => {
        BTreeMap::from([$((stringify!($name), again::<$module::$name> as Check)),+])
    };
}

fn rooms() -> BTreeMap<&'static str, BTreeMap<&'static str, Check>> {
    let mut envelopes = room![problem::Problem, event::Event, live::Live, grant::Grant];
    envelopes.insert("Envelope", again::<envelope::Envelope<Value>>);
    BTreeMap::from([
        ("envelope", envelopes),
        ("rate", room![rate::RateTaken]),
        (
            "agent",
            room![
                agent::Step,
                agent::ResultReport,
                agent::ReportAnswer,
                agent::SampleBatch,
                agent::SampleAnswer,
                agent::Inventory,
                agent::Noted,
                agent::Stopping,
            ],
        ),
        (
            "order",
            room![
                order::Signed,
                order::Order,
                order::SyncRequest,
                order::SyncPage,
            ],
        ),
        (
            "action",
            room![
                action::ActionCreate,
                action::ActionFanOut,
                action::ActionBatch,
                action::ActionGet,
                action::ActionCancel,
                action::ActionList,
                action::ActionPage,
                action::Action,
            ],
        ),
        (
            "identity",
            room![
                identity::Login,
                identity::Tokens,
                identity::Refresh,
                identity::Logout,
                identity::Done,
                identity::Me,
                identity::Principal,
                identity::Switch,
                identity::SessionList,
                identity::SessionPage,
                identity::SessionRevoke,
                identity::PasswordChange,
                identity::PasswordForgot,
                identity::PasswordReset,
                identity::InvitationAccept,
                identity::OrganizationList,
                identity::OrganizationPage,
                identity::OrganizationGet,
                identity::Organization,
                identity::OrganizationCreate,
                identity::OrganizationEdit,
                identity::OrganizationClose,
                identity::MemberList,
                identity::MemberPage,
                identity::MemberGet,
                identity::Member,
                identity::MemberInvite,
                identity::Invited,
                identity::MemberEdit,
                identity::MemberRemove,
                identity::MemberReset,
                identity::OneTimeLink,
                identity::InvitationList,
                identity::InvitationPage,
                identity::InvitationCancel,
                identity::ApiKeyList,
                identity::ApiKeyPage,
                identity::ApiKeyGet,
                identity::ApiKey,
                identity::ApiKeyCreate,
                identity::ApiKeyCreated,
                identity::ApiKeyEdit,
                identity::ApiKeyRevoke,
                identity::EnrollmentTokenList,
                identity::EnrollmentTokenPage,
                identity::EnrollmentTokenGet,
                identity::EnrollmentToken,
                identity::EnrollmentTokenCreate,
                identity::EnrollmentTokenCreated,
                identity::EnrollmentTokenRevoke,
                identity::Exchange,
                identity::Exchanged,
                identity::PrincipalGrant,
                identity::PrincipalGranted,
                identity::JwksGet,
                grant::Jwks,
                identity::Challenge,
                identity::Challenged,
                identity::Enroll,
                identity::Enrolled,
                identity::StandingGet,
                identity::Standing,
                identity::MachineEdit,
                identity::MachineEdited,
                identity::MachineLabel,
                identity::MachineLabelled,
                identity::MachineRevoke,
                identity::MachineRelease,
                identity::MachineQuarantine,
                identity::MachineChanges,
                identity::MachineChangesPage,
                identity::ActionKeysGet,
                identity::ActionKeyFingerprints,
                identity::ActionKeysPut,
                identity::Deployment,
            ],
        ),
        (
            "audit",
            room![
                audit::AuditAppend,
                audit::AuditAppended,
                audit::AuditRefused,
                audit::AuditList,
                audit::AuditPage,
                audit::AuditExport,
                audit::AuditExported,
                audit::AuditVerify,
                audit::AuditVerified,
                audit::AuditHeads,
                audit::AuditHeadsPage,
                audit::AuditCountersign,
                audit::AuditSigned,
                audit::AuditSignedPage,
            ],
        ),
        (
            "legacy",
            room![
                legacy::LegacyBind,
                legacy::LegacyBound,
                legacy::LegacyReport,
                legacy::LegacyReported,
                legacy::LegacyFleet,
                legacy::LegacyFleetPage,
                legacy::LegacyQueue,
                legacy::LegacyQueued,
                legacy::LegacyPending,
                legacy::LegacyTasks,
                legacy::LegacyResult,
                legacy::LegacyNoted,
            ],
        ),
        (
            "job",
            room![
                job::JobCreate,
                job::Job,
                job::JobGet,
                job::JobList,
                job::JobPage,
                job::JobEdit,
                job::JobDelete,
                job::JobDeleted,
                job::JobExecute,
                job::SettingsGet,
                job::Settings,
                job::SettingsEdit,
            ],
        ),
        (
            "execution",
            room![
                execution::ExecutionBatch,
                execution::ExecutionBatched,
                execution::ExecutionGet,
                execution::Execution,
                execution::ExecutionList,
                execution::ExecutionPage,
                execution::ExecutionCancel,
                execution::ExecutionRetry,
                execution::ExecutionCancelMany,
                execution::ExecutionRetryMany,
                execution::ExecutionsChanged,
                execution::ExecutionLog,
                execution::ExecutionLogPage,
            ],
        ),
        (
            "run",
            room![
                run::RunBegin,
                run::RunLease,
                run::RunRenew,
                run::RunClaim,
                run::RunClaimed,
                run::RunFinish,
                run::RunFinished,
                run::RunLog,
                run::RunLogged,
                run::RunAct,
                run::RunEnd,
                run::RunEnded,
            ],
        ),
        ("work", room![run::Offers, work::Bell]),
        (
            "metrics",
            room![
                metrics::MachineList,
                metrics::MachinePage,
                metrics::MachineGet,
                metrics::Machine,
                metrics::MachineSelect,
                metrics::MachineSelection,
                metrics::SampleList,
                metrics::SamplePage,
                metrics::PresenceHistory,
                metrics::PresenceHistoryPage,
                metrics::AvailabilityGet,
                metrics::Availability,
                metrics::PresenceGet,
                metrics::PresencePage,
            ],
        ),
    ])
}

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

#[test]
fn every_message_is_read_and_written_as_its_example() {
    for (room, checks) in rooms() {
        let file = here("snapshots").join(format!("{room}.json"));
        let text = std::fs::read_to_string(&file).expect("an example file");
        let examples: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
        let (written, known): (BTreeSet<&str>, BTreeSet<&str>) = (
            examples.keys().map(String::as_str).collect(),
            checks.keys().copied().collect(),
        );
        assert_eq!(written, known, "{room}: each message has one example");
        for (name, example) in &examples {
            let check = checks[name.as_str()];
            let came_out = check(example).unwrap_or_else(|error| panic!("{room} {name}: {error}"));
            assert_eq!(&came_out, example, "{room} {name}");
        }
    }
}

/// The types of every `call!`, from the sources: who adds a call adds its examples.
#[test]
fn every_call_has_its_examples() {
    let known: BTreeSet<&str> = rooms()
        .into_values()
        .flat_map(BTreeMap::into_keys)
        .collect();
    let mut calls = 0;
    for entry in std::fs::read_dir(here("src")).expect("sources") {
        let path = entry.expect("a file").path();
        // Folders hold parts of messages; calls stand beside their owner's name.
        if path.is_dir() {
            continue;
        }
        let source = std::fs::read_to_string(path).expect("a source");
        for line in source
            .lines()
            .filter_map(|line| line.strip_prefix("crate::call!("))
        {
            let (request, rest) = line.split_once(" => ").expect("a request");
            // A reply that another room owns is named by its path.
            let (reply, _) = rest.split_once(": ").expect("a reply");
            calls += 1;
            for name in [request, reply].map(|name| name.rsplit("::").next().unwrap_or(name)) {
                assert!(
                    known.contains(name),
                    "{name} has no example in `snapshots/`"
                );
            }
        }
    }
    assert!(calls > 20, "{calls} calls were found");
}
