use axum::extract::State;
use bollard_stubs::models::EventMessage;
use futures::StreamExt as _;
use serde_json::{Value, json as value};
use skep_engine::EventsOptions;
use skep_types::moment;
use time::OffsetDateTime;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Params};
use crate::stream::{JsonLine, json_lines};

/// `GET /events`: past ones from `since`, then those that come, until `until` or for ever.
pub(super) async fn events(State(app): State<App>, query: Params) -> ApiResult {
    let options = EventsOptions {
        since: event_time(&query, "since")?,
        until: event_time(&query, "until")?.map(|until| {
            let whole = !query.text("until").contains('.');
            if whole { end_of_second(until, OffsetDateTime::now_utc()) } else { until }
        }),
        filters: query.filters()?,
    };
    if let (Some(since), Some(until)) = (options.since, options.until)
        && until < since
    {
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.text("since"),
            query.text("until")
        )));
    }
    let events = app.engine.system_events(options)?;
    Ok(json_lines(events.map(|event| JsonLine::new(&view(&event)))))
}

/// An event with the fields that containers' and images' events had before they got an actor; SDKs
/// still read them.
fn view(event: &EventMessage) -> Value {
    let mut view = value!(event);
    let kind = view["Type"].as_str().unwrap_or("").to_owned();
    if matches!(kind.as_str(), "container" | "image") {
        view["status"] = view["Action"].clone();
        view["id"] = view["Actor"]["ID"].clone();
        if let Some(image) = view["Actor"]["Attributes"].get("image").cloned() {
            view["from"] = image;
        }
    }
    view
}

/// The end of a second, or now where that second is running. The docker client cuts times off at
/// seconds: `--until 0s` would otherwise leave out what has just happened.
fn end_of_second(second: OffsetDateTime, now: OffsetDateTime) -> OffsetDateTime {
    let end = second + time::Duration::nanoseconds(999_999_999);
    if (second..end).contains(&now) { now } else { end }
}

/// A time parameter: seconds since 1970 with up to nine decimals, or RFC 3339. Missing, empty and `0`
/// are `None`.
///
/// # Errors
/// 400, naming the parameter.
pub(crate) fn event_time(query: &Params, key: &str) -> ApiResult<Option<OffsetDateTime>> {
    let text = query.text(key);
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    match parse_time(text) {
        Some(time) => Ok(Some(time)),
        None => Err(ApiError::bad_request(format!("invalid value for \"{key}\": {text}"))),
    }
}

fn parse_time(text: &str) -> Option<OffsetDateTime> {
    moment::unix_time(text).or_else(|| moment::date(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time = |text: &str| event_time(&Params::parse(&format!("since={text}")), "since");
        assert_eq!(time("").unwrap(), None);
        assert_eq!(time("0").unwrap(), None);
        assert_eq!(time("10.5").unwrap().unwrap().unix_timestamp_nanos(), 10_500_000_000);
        assert_eq!(time("2020-09-13T12:26:40Z").unwrap().unwrap().unix_timestamp(), 1_600_000_000);
        assert!(time("soon").unwrap_err().message.contains("since"));
        assert!(time("1.1234567890").is_err());
    }

    #[test]
    fn a_second_lasts_until_its_end_or_until_now() {
        let at = |nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        let second = at(5_000_000_000);
        assert_eq!(end_of_second(second, at(5_300_000_000)), at(5_300_000_000));
        assert_eq!(end_of_second(second, at(7_000_000_000)), at(5_999_999_999));
        assert_eq!(end_of_second(second, at(4_000_000_000)), at(5_999_999_999));
    }

    #[test]
    fn old_fields_are_added_to_containers_events() {
        let event = EventMessage {
            typ: Some(bollard_stubs::models::EventMessageTypeEnum::CONTAINER),
            action: Some("start".into()),
            actor: Some(bollard_stubs::models::EventActor {
                id: Some("abc".into()),
                attributes: Some([("image".to_owned(), "busybox".to_owned())].into()),
            }),
            ..Default::default()
        };
        let view = view(&event);
        assert_eq!(
            (&view["status"], &view["id"], &view["from"]),
            (&value!("start"), &value!("abc"), &value!("busybox"))
        );
    }
}
