//! The service `soup.stock.v1.Stock` as docs/stock.md defines it. A handler knows messages, the
//! [`store`] knows keys and revisions, and [`calls`] is around both: what holds for every call.

mod ask;
mod calls;
mod compress;
mod limits;
pub mod mistake;
mod monitor;
mod store;
mod trade;

use std::sync::Arc;

use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use self::ask::Asked;
use self::calls::{Call, Calls};
use self::compress::Choice;
use self::limits::{check_key, check_key_unless, check_value};
use self::mistake::{Mistake, Wrong};
use self::monitor::Pattern;
use self::store::Store;
use super::account::find;
use super::proto::stock::stock_server::Stock;
use super::proto::stock::{
    BatchItem, BatchSummary, Empty, GetRequest, GetResponse, InventoryStatus, PutRequest, TradeFill, TradeOrder,
    WatchEvent, WatchRequest,
};
use crate::peer::Limits;

/// Its full protobuf name.
pub const STOCK_SERVICE: &str = "soup.stock.v1.Stock";

/// The service with everything around its handlers.
pub(super) type App = calls::Around<Choice>;

/// A service with an empty store, and messages of at most these sizes.
pub(super) fn app(mistake: Option<Mistake>, limits: Limits) -> App {
    let wrong = Wrong(mistake);
    let calls = Arc::new(Calls::new(wrong));
    let service = StockService { store: Arc::new(Store::new(wrong)), calls: Arc::clone(&calls), wrong };
    calls::Around::new(Choice::new(service, limits), calls)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct StockService {
    store: Arc<Store>,
    calls: Arc<Calls>,
    wrong: Wrong,
}

#[tonic::async_trait]
impl Stock for StockService {
    type MonitorStream = BoxStream<'static, Result<WatchEvent, Status>>;
    type TradeStream = BoxStream<'static, Result<TradeFill, Status>>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let call = Call::of(&request);
        let GetRequest { key, ask } = request.into_inner();
        call.is_about(&key);
        let asked = Asked::read(ask, self.wrong)?;
        asked.first().await?;
        check_key_unless(Mistake::LongKeySought, &key, self.wrong)?;
        let found = self.store.get(&key).filter(|value| !(value.is_empty() && self.wrong.is(Mistake::EmptyIsAbsent)));
        match found {
            Some(value) => Ok(Response::new(GetResponse { value, padding: asked.padding() })),
            None if self.wrong.is(Mistake::AbsentIsEmpty) => Ok(Response::new(GetResponse::default())),
            None if self.wrong.is(Mistake::AbsentIsUnknown) => Err(Status::unknown(format!("key not found: {key}"))),
            None if self.wrong.is(Mistake::AbsentUnnamed) => Err(Status::not_found("key not found")),
            None => Err(Status::not_found(format!("key not found: {key}"))),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<Empty>, Status> {
        let call = Call::of(&request);
        let PutRequest { key, value, ask } = request.into_inner();
        call.is_about(&key);
        let asked = Asked::read(ask, self.wrong)?;
        if self.wrong.is(Mistake::PutBeforeStatus) {
            self.store.put(&key, value.clone())?;
        }
        asked.first().await?;
        check_key(&key, self.wrong)
            .and_then(|()| check_value(&value, self.wrong))
            .inspect_err(|_| self.store.refused())?;
        self.store.put(&key, value)?;
        Ok(Response::new(Empty { padding: asked.padding(), ask: None }))
    }

    async fn monitor(&self, request: Request<WatchRequest>) -> Result<Response<Self::MonitorStream>, Status> {
        let call = Call::of(&request);
        let WatchRequest { pattern, snapshot, ask } = request.into_inner();
        call.is_about(&pattern);
        let asked = Asked::read(ask, self.wrong)?;
        asked.at_once().await?;
        let pattern = Pattern::read(&pattern, self.wrong)?;
        Ok(Response::new(monitor::events(&self.store, &pattern, snapshot, asked, self.wrong)))
    }

    async fn batch(&self, request: Request<Streaming<BatchItem>>) -> Result<Response<BatchSummary>, Status> {
        let call = Call::of(&request);
        let mut items = request.into_inner();
        let mut summary = BatchSummary::default();
        let (mut position, mut late) = (0, Vec::new());
        while let Some(mut item) = next(&mut items).await? {
            if position == 0 {
                call.is_about(&item.key);
            }
            let asked = Asked::read(item.ask.take(), self.wrong)?;
            asked.first().await?;
            if asked.pads() {
                summary.padding = asked.padding();
            }
            if self.wrong.is(Mistake::BatchAtItsEnd) {
                late.push((position, item));
            } else {
                self.apply(position, item, &mut summary)?;
            }
            position += 1;
        }
        for (position, item) in late {
            self.apply(position, item, &mut summary)?;
        }
        if position == 0 && self.wrong.is(Mistake::EmptyBatchFails) {
            return Err(Status::invalid_argument("the batch is empty"));
        }
        Ok(Response::new(summary))
    }

    async fn trade(&self, request: Request<Streaming<TradeOrder>>) -> Result<Response<Self::TradeStream>, Status> {
        let call = Call::of(&request);
        Ok(Response::new(trade::fills(Arc::clone(&self.store), request.into_inner(), call, self.wrong)))
    }

    async fn inventory(&self, request: Request<Empty>) -> Result<Response<InventoryStatus>, Status> {
        let asked = Asked::read(request.into_inner().ask, self.wrong)?;
        asked.first().await?;
        let prefix = if self.wrong.is(Mistake::InventoryIgnoresPrefix) { "" } else { asked.prefix() };
        let (open, broken) = self.calls.settled(prefix, asked.settle()).await;
        let (keys, bytes, revision) = self.store.count(prefix);
        let padding = asked.padding();
        Ok(Response::new(InventoryStatus { keys, bytes, revision, open, broken, padding }))
    }
}

impl StockService {
    /// One item of a batch: applied and counted, or refused.
    fn apply(&self, position: u32, item: BatchItem, summary: &mut BatchSummary) -> Result<(), Status> {
        if self.wrong.is(Mistake::BatchStopsAtRefusal) && !summary.refused.is_empty() {
            return Ok(());
        }
        let BatchItem { key, value, delete, ask: _ } = item;
        let delete = delete || (value.is_empty() && self.wrong.is(Mistake::EmptyDeletes));
        let looks_at_value = !delete || self.wrong.is(Mistake::DeleteLooksAtValue);
        let fits = check_key(&key, self.wrong).is_ok() && !(looks_at_value && check_value(&value, self.wrong).is_err());
        let revision = match (fits, delete) {
            (false, _) => None,
            (true, true) => self.store.delete(&key),
            (true, false) => self.store.put(&key, value).ok(),
        };
        let counted = revision.is_some()
            || self.wrong.is(Mistake::RefusedAreCounted)
            || (fits && delete && self.wrong.is(Mistake::AbsentDeletesCount));
        if revision.is_none() {
            self.store.refused();
        }
        summary.revision = revision.unwrap_or(summary.revision);
        if counted {
            *if delete { &mut summary.deletes } else { &mut summary.puts } += 1;
        } else if summary.refused.len() == limits::REFUSED {
            return Err(Status::resource_exhausted(format!("more than {} items are refused", limits::REFUSED)));
        } else {
            summary.refused.push(position + u32::from(self.wrong.is(Mistake::RefusedFromOne)));
        }
        Ok(())
    }
}

/// The next message of a stream. One that was reset gives nothing any more: its call ends when the
/// connection drops it, and not by a status that nobody gets.
async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    let next = stream.message().await;
    match next {
        Err(status) if find::<h2::Error>(&status).is_some() => std::future::pending().await,
        next => next,
    }
}
