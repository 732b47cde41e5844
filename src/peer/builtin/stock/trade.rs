//! `Trade`: orders against the stock of a symbol, which is the number that its value spells.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::{Status, Streaming};

use super::super::proto::stock::trade_order::Side;
use super::super::proto::stock::{TradeFill, TradeOrder};
use super::ask::Asked;
use super::calls::Call;
use super::limits::{QUANTITY, STOCK, check_key_unless};
use super::mistake::{Mistake, Wrong};
use super::store::Store;

struct Trader {
    store: Arc<Store>,
    orders: Streaming<TradeOrder>,
    call: Call,
    position: u32,
    wrong: Wrong,
}

/// The fills of one call: an order is read when the fill before it was taken.
pub(super) fn fills(
    store: Arc<Store>,
    orders: Streaming<TradeOrder>,
    call: Call,
    wrong: Wrong,
) -> BoxStream<'static, Result<TradeFill, Status>> {
    let trader = Trader { store, orders, call, position: 0, wrong };
    let fills = stream::try_unfold(trader, |mut trader| async move {
        let fill = trader.next().await?;
        Ok::<_, Status>(fill.map(|fill| (fill, trader)))
    });
    match wrong.0 {
        // Only when all orders have come.
        Some(Mistake::FillsAtTheEnd) => stream::once(fills.collect::<Vec<_>>()).flat_map(stream::iter).boxed(),
        Some(Mistake::FailedTradeLosesFills) => {
            let all = futures::TryStreamExt::try_collect::<Vec<_>>(fills);
            stream::once(all)
                .flat_map(|all| match all {
                    Ok(all) => stream::iter(all).map(Ok).boxed(),
                    Err(status) => stream::iter([Err(status)]).boxed(),
                })
                .boxed()
        }
        _ => fills.boxed(),
    }
}

impl Trader {
    async fn next(&mut self) -> Result<Option<TradeFill>, Status> {
        let Some(order) = super::next(&mut self.orders).await? else { return Ok(None) };
        if self.position == 0 {
            self.call.is_about(&order.symbol);
        }
        let asked = Asked::read(order.ask.clone(), self.wrong)?;
        asked.first().await?;
        let mut fill = fill(&self.store, &order, self.wrong)?;
        fill.order = self.position + u32::from(self.wrong.is(Mistake::OrdersFromOne));
        fill.padding = asked.padding();
        self.position += 1;
        Ok(Some(fill))
    }
}

/// Does one order, in one step.
fn fill(store: &Store, order: &TradeOrder, wrong: Wrong) -> Result<TradeFill, Status> {
    let TradeOrder { symbol, quantity, .. } = order;
    let quantity = *quantity;
    check_key_unless(Mistake::LongSymbolTaken, symbol, wrong)?;
    let least = u32::from(!wrong.is(Mistake::ZeroOrdersTaken));
    if !(least..=QUANTITY).contains(&quantity) {
        return Err(Status::invalid_argument(format!("the quantity is {quantity}; it has to be 1 to {QUANTITY}")));
    }
    let side = match Side::try_from(order.side) {
        Ok(Side::Unspecified) if wrong.is(Mistake::NoSideBuys) => Side::Buy,
        Ok(side @ (Side::Buy | Side::Sell)) => side,
        _ => return Err(Status::invalid_argument("the side is neither BUY nor SELL")),
    };
    let trade = |value: Option<&Bytes>| {
        let before = stock(symbol, value, wrong)?;
        let (filled, after) = match side {
            Side::Buy => bought(before, quantity, wrong),
            _ if wrong.is(Mistake::SellsIgnored) => (quantity, before),
            _ => match before.checked_add(quantity).filter(|after| *after <= STOCK) {
                Some(after) => (quantity, after),
                None => return Err(Status::out_of_range(format!("the stock of {symbol} would be over {STOCK}"))),
            },
        };
        let value = (after != before).then(|| Bytes::from(after.to_string()));
        Ok(((filled, after), value))
    };
    let ((filled, after), revision) = store.change(symbol, trade)?;
    let unfilled = if wrong.is(Mistake::UnfilledMissing) { 0 } else { quantity.saturating_sub(filled) };
    let revision = revision.unwrap_or(0);
    Ok(TradeFill { symbol: symbol.clone(), filled, unfilled, stock: after, revision, ..TradeFill::default() })
}

/// What a purchase gets of a stock, and what remains of it.
fn bought(before: u32, quantity: u32, wrong: Wrong) -> (u32, u32) {
    match wrong.0 {
        Some(Mistake::AllOrNothing) if quantity > before => (0, before),
        Some(Mistake::Oversold) => (quantity, before.saturating_sub(quantity)),
        _ => {
            let filled = quantity.min(before);
            (filled, before - filled)
        }
    }
}

/// The number that a value spells: 0, or digits without a leading 0. None is 0.
fn stock(symbol: &str, value: Option<&Bytes>, wrong: Wrong) -> Result<u32, Status> {
    let Some(value) = value else { return Ok(0) };
    let text = std::str::from_utf8(value).unwrap_or_default();
    let text = match wrong.0 {
        Some(Mistake::LeadingZeroTaken) => text.trim_start_matches('0'),
        Some(Mistake::SignTaken) => text.trim_start_matches('+'),
        Some(Mistake::SpacesTaken) => text.trim(),
        Some(Mistake::EmptyIsZero) if text.is_empty() => "0",
        _ => text,
    };
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|digit| digit.is_ascii_digit()));
    match text.parse::<u32>() {
        Ok(stock) if plain && stock <= STOCK => Ok(stock),
        _ if wrong.is(Mistake::NonsenseIsZero) => Ok(0),
        _ => Err(Status::failed_precondition(format!("the value of {symbol} is no stock"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_is_a_plain_number() {
        let read = |text: &'static str| stock("s", Some(&Bytes::from_static(text.as_bytes())), Wrong(None)).ok();
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("1000000000"), Some(STOCK));
        for nonsense in ["", "00", "01", "+1", "-1", "1 ", "1.0", "1000000001", "99999999999", "ten"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(stock("s", None, Wrong(None)).ok(), Some(0));
    }
}
