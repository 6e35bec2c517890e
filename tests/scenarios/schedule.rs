//! `payrelay schedule preview`: the real program, without a server, a store or a secret.

use std::process::Command;

use serde_json::{Value, json};

/// What the program prints and says, and how it ends.
fn preview(arguments: &str) -> (i32, String, String) {
    preview_with("", arguments)
}

/// The same with a configuration of one's own.
fn preview_with(config: &str, arguments: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payrelay.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_payrelay"));
    // Nothing of whoever runs the tests: there is no secret and no address of a store.
    command.env_clear().arg("--config").arg(&file).args(["schedule", "preview"]).args(arguments.split_whitespace());
    let ended = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
}

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Easter moves one Friday to a Tuesday, and the clocks move every opening by an hour.
#[test]
fn a_schedule_is_previewed_as_a_table() {
    let (code, out, err) = preview("--frequency weekly --day friday --currency EUR --from 2026-03-27 --to 2026-04-10");
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().map(columns).collect();
    assert_eq!(lines[0], ["date", "day", "instead", "of", "opens", "cut-off"]);
    assert_eq!(lines[1], ["2026-03-27", "friday", "2026-03-27T05:00:00Z", "2026-03-27T16:00:00Z"]);
    assert_eq!(lines[2], ["2026-04-07", "tuesday", "friday", "2026-04-03", "2026-04-07T04:00:00Z", "2026-04-07T15:00:00Z"]);
    assert_eq!(lines[3], ["2026-04-10", "friday", "2026-04-10T04:00:00Z", "2026-04-10T15:00:00Z"]);
    assert_eq!(out.lines().nth(4), Some("3 payouts; calendar TARGET2, zone Europe/Berlin"));
    assert_eq!(lines.len(), 5, "{out}");
}

#[test]
fn a_schedule_is_previewed_as_json() {
    let (code, out, _) = preview("--frequency monthly --day monday --recurrence fourth --currency GBP --from 2028-08-01 --to 2028-09-30 --json");
    assert_eq!(code, 0);
    let expected = json!({
        "schedule": { "frequency": "monthly", "scheduledPayoutDay": "monday", "recurrence": "fourth" },
        "currency": "GBP",
        "calendar": "UK",
        "calendar_ends": null,
        "zone": "Europe/London",
        "from": "2028-08-01",
        "to": "2028-09-30",
        "payouts": [
            { "date": "2028-08-29", "instead_of": "2028-08-28", "opens_at": "2028-08-29T05:00:00Z", "cut_off_at": "2028-08-29T16:00:00Z" },
            { "date": "2028-09-25", "instead_of": null, "opens_at": "2028-09-25T05:00:00Z", "cut_off_at": "2028-09-25T16:00:00Z" },
        ],
        "complete": true,
    });
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);

    let (_, out, _) = preview("--frequency daily --currency USD --from 2026-01-01 --to 2035-12-31 --count 5 --json");
    let cut: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((cut["complete"].as_bool(), cut["payouts"].as_array().map(Vec::len)), (Some(false), Some(5)));
}

#[test]
fn a_preview_uses_the_calendars_of_the_configuration() {
    let config = "[calendars]\ncurrencies.NOK = { calendar = 'oslo', zone = 'Europe/Oslo', opens = '08:00', cut_off = '24:00' }\ntables.oslo.closed = ['2027-05-17']";
    let (code, out, err) = preview_with(config, "--frequency weekly --day monday --currency NOK --from 2027-05-17 --to 2028-01-03");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        columns(out.lines().nth(1).unwrap()),
        ["2027-05-18", "tuesday", "monday", "2027-05-17", "2027-05-18T06:00:00Z", "2027-05-18T22:00:00Z"]
    );
    let last = out.lines().last().unwrap();
    assert_eq!(last, "The calendar oslo lists no closed days after 2027-12-31: later dates know weekends only.");

    let (code, _, err) = preview_with("[calendars]\nothers.zone = 'Mars'", "--frequency daily --currency NOK --from 2027-05-17 --to 2027-06-17");
    assert_eq!(code, 78);
    assert!(err.contains("`calendars.others.zone` must be a time zone of IANA"), "{err}");
}

#[test]
fn arguments_that_are_no_schedule_name_the_flag_and_what_it_takes() {
    let range = "--currency EUR --from 2026-01-01 --to 2026-12-31";
    for (arguments, said) in [
        (format!("--frequency yearly {range}"), &["--frequency", "daily, weekly, monthly"][..]),
        (format!("--frequency weekly --day sunday {range}"), &["--day", "monday, tuesday, wednesday, thursday, friday"]),
        (format!("--frequency weekly {range}"), &["--day is needed for the frequency weekly: one of monday, tuesday, wednesday, thursday, friday"]),
        (format!("--frequency monthly --day friday --recurrence fifth {range}"), &["--recurrence", "first, second, third, fourth"]),
        (
            format!("--frequency monthly {range}"),
            &["--day is needed", "--recurrence is needed for the frequency monthly: one of first, second, third, fourth"],
        ),
        (format!("--frequency daily --day friday {range}"), &["--day has no meaning for the frequency daily"]),
        (range.to_owned(), &["--frequency <FREQUENCY>"]),
        ("--frequency daily --currency euro --from 2026-01-01 --to 2026-12-31".to_owned(), &["--currency", "three upper-case letters"]),
        (
            "--frequency daily --currency EUR --from 2026-02-29 --to 2026-12-31".to_owned(),
            &["--from", "expected a date from 2020-01-01 to 2199-12-31"],
        ),
        ("--frequency daily --currency EUR --from 2026-01-02 --to 2026-01-01".to_owned(), &["--to must not be before --from"]),
        ("--frequency daily --currency EUR --from 2026-01-01 --to 2036-01-02".to_owned(), &["--to must be at most 10 years after --from"]),
        (format!("--frequency daily --count 5001 {range}"), &["--count", "1..=5000"]),
    ] {
        let (code, out, err) = preview(&arguments);
        assert!(code != 0 && out.is_empty(), "{arguments}: {out}");
        for words in said {
            assert!(err.contains(words), "{arguments}: {err}");
        }
    }
}
