//! The rules of the policy's `[sql]` section: which databases, as whom, and whether they may be written.

use std::net::IpAddr;

use steward_shared::action::Sql;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::template::Tls;

use super::admission::{Place, login, proven, secrets, used};
use super::file::SqlSection;
use super::{named, refused};

/// Applies the `[sql]` section.
pub(super) fn admit(
    section: Option<&SqlSection>,
    job: &Job,
    action: &Sql,
) -> Result<Place, Refusal> {
    let section =
        section.ok_or_else(|| refused("policy.sql", "sql", "has no section in the policy"))?;
    let (address, database) = (&job.target.address, &action.database);
    if database.name.is_empty() {
        return Err(refused(
            "target",
            &job.target.name,
            "has no database on record",
        ));
    }
    let place = format!("{address}:{}", database.port);
    if !section
        .targets
        .iter()
        .any(|rule| rule.covers(address, database.port))
    {
        return Err(refused(
            "policy.sql.targets",
            &place,
            "is not in the list of targets",
        ));
    }
    if !named(&section.databases, &database.name) {
        return Err(refused(
            "policy.sql.databases",
            &database.name,
            "is not in the list of databases",
        ));
    }
    if database.tls == Tls::Off && !section.plain && !is_own(address) {
        return Err(refused(
            "policy.sql.plain",
            &place,
            "is reached without TLS, which is not allowed beyond this machine",
        ));
    }
    let login = login(job.login.as_ref(), &job.target.name)?;
    proven("policy.sql.credentials", &section.credentials, login)?;
    used("policy.sql.accounts", &section.accounts, login)?;
    if section.read_only && !action.read_only {
        return Err(Refusal {
            clause: "policy.sql.read_only".to_owned(),
            message: "the job may write, and only jobs that read are allowed".to_owned(),
        });
    }
    secrets("policy.sql.secrets", section.secrets, job)?;
    Ok(Place::Target)
}

/// Whether this is an address of this machine that nobody else sees; a name is never looked up.
pub(super) fn is_own(address: &str) -> bool {
    address
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use steward_shared::action::{Action, Database};
    use steward_shared::proof::{Deviation, follows};
    use steward_shared::template::{Manifest, Reading, Step, StepKind, Value};

    use super::super::tests::{job, local};
    use super::*;

    #[test]
    fn only_a_loopback_address_is_this_machine() {
        for own in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(is_own(own), "{own}");
        }
        for other in ["localhost", "10.0.0.1", "0.0.0.0", "::", "127.0.0.1.a"] {
            assert!(!is_own(other), "{other}");
        }
    }

    const SIGNED: &str = "template: sample\nexecutor: sql\nread_only: true\n\
        inputs: { n: { type: integer, max: 9 } }\nsteps: [ { sql: \"SELECT {{ n }}\", rows: { max: 1 } } ]\n\
        timeout: 1m\nlimits: { output: 1MiB }\n";

    #[test]
    fn dry_run_does_what_its_authors_have_signed_for_it() {
        let signed = SIGNED.replace(
            "timeout: 1m",
            "dry_run:\n  - { sql: SELECT 1 AS n, save: { name: all, type: integer, column: n } }\ntimeout: 1m",
        );
        let manifest = Manifest::parse(&signed).unwrap();
        let probe = manifest.dry_run.clone().unwrap();
        let does = |steps: Vec<Step>, readings: Vec<Reading>| {
            let mut job = job(local(Vec::new()));
            job.limits.output_bytes = 1 << 20;
            job.readings = readings;
            job.action = Action::Sql(Sql {
                steps,
                values: [("n".to_owned(), Value::Integer(7))].into(),
                database: Database {
                    port: 5432,
                    name: "shop".to_owned(),
                    tls: Tls::Verify,
                    authorities: Vec::new(),
                },
                read_only: true,
            });
            follows(&job, &manifest)
        };
        assert_eq!(does(probe.steps.clone(), probe.readings.clone()), Ok(()));
        assert_eq!(does(manifest.steps.clone(), Vec::new()), Ok(()));
        let differs = |what| Err(Deviation::Differs(what));
        assert_eq!(does(probe.steps.clone(), Vec::new()), differs("steps"));
        let readings = probe.readings.clone();
        assert_eq!(
            does(manifest.steps.clone(), readings.clone()),
            differs("readings")
        );
        let both = [manifest.steps.clone(), probe.steps].concat();
        assert_eq!(does(both, readings), differs("steps"));
    }

    #[test]
    fn job_does_no_more_than_its_authors_have_signed() {
        let manifest = Manifest::parse(SIGNED).unwrap();
        let deviating = |deviate: fn(&mut Sql)| {
            let mut sql = Sql {
                steps: manifest.steps.clone(),
                values: [("n".to_owned(), Value::Integer(7))].into(),
                database: Database {
                    port: 5432,
                    name: "shop".to_owned(),
                    tls: Tls::Verify,
                    authorities: Vec::new(),
                },
                read_only: true,
            };
            deviate(&mut sql);
            let mut job = job(local(Vec::new()));
            job.limits.output_bytes = 1 << 20;
            job.action = Action::Sql(sql);
            follows(&job, &manifest)
        };
        assert_eq!(deviating(|_| ()), Ok(()));
        let differs = |what| Err(Deviation::Differs(what));
        assert_eq!(
            deviating(|sql| sql.read_only = false),
            differs("right to write")
        );
        assert_eq!(deviating(|sql| sql.steps.clear()), differs("steps"));
        let unbound = deviating(|sql| {
            if let StepKind::Sql { rows_max, .. } = &mut sql.steps[0].kind {
                *rows_max = None;
            }
        });
        assert_eq!(unbound, differs("steps"));
        let large = deviating(|sql| {
            sql.values.insert("n".to_owned(), Value::Integer(10));
        });
        assert!(matches!(large, Err(Deviation::Value(_))), "{large:?}");
    }
}
