//! What came from outside and is nobody's, and webhooks of the carrier that had no effect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::{Done, NoFields, limit, whole};
use crate::routing::json::Id;
use crate::routing::phone_number::contact_identity;
use crate::routing::{
    CarrierEventJson, CarrierEventQuery, KeptState, RoutingError, UnroutedJson, UnroutedQuery, UnroutedState,
};

/// `GET /unrouted_messages`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UnroutedRequest {
    /// `waiting` for somebody to get their number, or `delivered` since; both if not given.
    state: Option<UnroutedState>,
    /// Only those to this number, in E.164, or this RCS agent.
    number: Option<String>,
    /// At most so many, up to 200; 50 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// `next` of the page before.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u64>")]
    after: Option<i64>,
}

/// A page of unrouted messages, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnroutedList {
    /// The messages.
    messages: Vec<UnroutedJson>,
    /// To be sent as `after` for the next page; null on the last one.
    next: Option<Id>,
}

/// `GET /carrier_events`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CarrierEventsRequest {
    /// `set_aside`: can't be read or processed; `noted`: of a kind that does nothing here; both if not given.
    state: Option<KeptState>,
    /// Only those of this kind, as `message.echo`.
    event_type: Option<String>,
    /// At most so many, up to 200; 50 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// `next` of the page before.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u64>")]
    after: Option<i64>,
}

/// A page of the carrier's webhooks that had no effect, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CarrierEventList {
    /// The webhooks.
    carrier_events: Vec<CarrierEventJson>,
    /// To be sent as `after` for the next page; null on the last one.
    next: Option<Id>,
}

/// `POST /carrier_events/{id}/retry`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RetryRequest {}

/// A webhook of the carrier.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CarrierEventAnswer {
    /// With its whole body.
    carrier_event: CarrierEventJson,
}

/// Messages that were nobody's when they came.
pub async fn unrouted(caller: Caller, request: UnroutedRequest) -> Result<UnroutedList, RoutingError> {
    let Caller { router, app, .. } = caller;
    let query = UnroutedQuery {
        state: request.state,
        number: request.number.map(|number| contact_identity(&number)),
        limit: limit(request.limit, 50, 200)?,
        after: request.after,
    };
    let (messages, has_more) = router.unrouted_messages(app, query).await?;
    let next = messages.last().filter(|_| has_more).map(|last| Id::Number(last.id));
    Ok(UnroutedList { messages, next })
}

/// Webhooks that had no effect.
pub async fn events(caller: Caller, request: CarrierEventsRequest) -> Result<CarrierEventList, RoutingError> {
    let Caller { router, app, .. } = caller;
    let query = CarrierEventQuery {
        state: request.state,
        event_type: request.event_type,
        limit: limit(request.limit, 50, 200)?,
        after: request.after,
    };
    let (carrier_events, has_more) = router.carrier_events(app, query).await?;
    let next = carrier_events.last().filter(|_| has_more).map(|last| Id::Number(last.id));
    Ok(CarrierEventList { carrier_events, next })
}

/// One of them.
pub async fn event(caller: Caller, _request: NoFields) -> Result<CarrierEventAnswer, RoutingError> {
    let id = event_id(&caller)?;
    let Caller { router, app, .. } = caller;
    Ok(CarrierEventAnswer { carrier_event: router.carrier_event(app, id).await? })
}

/// Has one processed again.
pub async fn retry(caller: Caller, _request: RetryRequest) -> Result<Done, RoutingError> {
    let id = event_id(&caller)?;
    let Caller { router, app, .. } = caller;
    router.retry_carrier_event(app, id).await?;
    Ok(Done {})
}

fn event_id(caller: &Caller) -> Result<i64, RoutingError> {
    caller.id.parse().map_err(|_| RoutingError::not_found("carrier event"))
}
