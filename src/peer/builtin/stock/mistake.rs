//! Mistakes that an implementer of docs/stock.md could make, one switch each (`soupscen serve stock
//! --as-broken SWITCH`): what scenarios/stock/mistakes.yaml proves the reference suite with. The code
//! of each stands where the right code is, so that it stays a mistake of that place.

/// The mistake of a server, if it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong(pub(super) Option<Mistake>);

impl Wrong {
    pub(super) fn is(self, mistake: Mistake) -> bool {
        self.0 == Some(mistake)
    }
}

macro_rules! mistakes {
    ($($variant:ident $name:literal $what:literal;)+) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Mistake {
            $(#[doc = $what] $variant,)+
        }

        impl Mistake {
            /// All of them, with the names of their switches and what they do.
            pub const TABLE: &'static [(Self, &'static str, &'static str)] = &[$((Self::$variant, $name, $what)),+];
        }
    };
}

mistakes! {
    AbsentIsEmpty "absent-is-empty" "gives an empty value for a key that was never put";
    AbsentIsUnknown "absent-is-unknown" "answers `UNKNOWN` for an absent key";
    AbsentUnnamed "absent-unnamed" "does not say which key is absent";
    EmptyIsAbsent "empty-is-absent" "takes an empty value for an absent one";
    EmptyKeyTaken "empty-key-taken" "stores under the empty key";
    KeyLimitInCharacters "key-limit-in-characters" "counts the characters of a key, not its bytes";
    KeyLimitOffByOne "key-limit-off-by-one" "refuses the longest key";
    KeysTrimmed "keys-trimmed" "trims spaces from keys";
    LongKeySought "long-key-sought" "looks for a key over the limit";
    AnyValueSize "any-value-size" "stores values over the limit";
    ValuesAreText "values-are-text" "replaces what is no UTF-8 in values";
    RevisionPerKey "revision-per-key" "counts revisions per key";
    RevisionSkips "revision-skips" "counts revisions by two";
    SameValueSilent "same-value-silent" "does not count a put of the same value as a change";
    DeletesHaveNoRevision "deletes-have-no-revision" "does not count a delete as a change";
    EventsOneBehind "events-one-behind" "sends the revision before the change";
    RefusalsRaiseRevision "refusals-raise-revision" "raises the revision with what it refuses";
    SnapshotInUtf16 "snapshot-in-utf-16" "sends the snapshot in order of UTF-16";
    SnapshotInOrderOfChange "snapshot-in-order-of-change" "sends the snapshot in order of revision";
    SnapshotUnasked "snapshot-unasked" "sends a snapshot that was not asked for";
    SnapshotUnmarked "snapshot-unmarked" "sends the snapshot as puts";
    SnapshotAtReadyRevision "snapshot-at-ready-revision" "gives every key of the snapshot the newest revision";
    ReadyOnlyAfterSnapshot "ready-only-after-snapshot" "sends no READY where no snapshot was asked for";
    ReadyBeforeSnapshot "ready-before-snapshot" "sends READY before the snapshot";
    FirstChangeLost "first-change-lost" "loses what changes right after READY";
    ChangesCoalesced "changes-coalesced" "sends only the newest of the changes of a key";
    PrefixWithoutSlash "prefix-without-slash" "sends `ab` to the reader of `a/*`";
    OneLevelOnly "one-level-only" "does not send `a/b/c` to the reader of `a/*`";
    KeyIsPrefix "key-is-prefix" "sends `ab` to the reader of `a`";
    LongPatternTaken "long-pattern-taken" "reads a pattern over the limit";
    DeletesSilent "deletes-silent" "sends no event for a delete";
    DeleteIsEmptyPut "delete-is-empty-put" "sends a delete as a put of nothing";
    DeleteKeepsValue "delete-keeps-value" "sends the old value with a delete";
    SlowReadersMiss "slow-readers-miss" "leaves out what a slow reader has no room for";
    RefusedAreCounted "refused-are-counted" "counts refused items, and does not name them";
    RefusedFromOne "refused-from-one" "counts the positions of refused items from 1";
    BatchStopsAtRefusal "batch-stops-at-refusal" "applies nothing after a refused item";
    BatchAtItsEnd "batch-at-its-end" "applies a batch when it ends";
    AbsentDeletesCount "absent-deletes-count" "counts a delete of an absent key";
    EmptyBatchFails "empty-batch-fails" "refuses a batch without items";
    EmptyDeletes "empty-deletes" "takes an item with an empty value for a delete";
    DeleteLooksAtValue "delete-looks-at-value" "refuses a delete for the size of its value";
    FillsAtTheEnd "fills-at-the-end" "sends fills when all orders have come";
    FailedTradeLosesFills "failed-trade-loses-fills" "sends no fill of a trade that fails later";
    AllOrNothing "all-or-nothing" "fills nothing of an order that is too large";
    Oversold "oversold" "fills more than there is";
    UnfilledMissing "unfilled-missing" "does not say what was not filled";
    SellsIgnored "sells-ignored" "does not add to the stock";
    OrdersFromOne "orders-from-one" "counts orders from 1";
    ZeroOrdersTaken "zero-orders-taken" "fills orders of nothing";
    NoSideBuys "no-side-buys" "takes an order without a side for a purchase";
    NonsenseIsZero "nonsense-is-zero" "takes a value that is no number for 0";
    LeadingZeroTaken "leading-zero-taken" "takes 01 for a stock";
    SignTaken "sign-taken" "takes +1 for a stock";
    SpacesTaken "spaces-taken" "takes a number with spaces for a stock";
    EmptyIsZero "empty-is-zero" "takes an empty value for a stock of 0";
    LongSymbolTaken "long-symbol-taken" "trades a symbol over the limit";
    EchoOnlyInHeaders "echo-only-in-headers" "echoes in headers alone";
    EchoOnlyInTrailers "echo-only-in-trailers" "echoes in trailers alone";
    EchoNotOnFailure "echo-not-on-failure" "echoes nothing when a call fails";
    EchoFirstOnly "echo-first-only" "echoes the first of the values of a key";
    EchoJoined "echo-joined" "joins the values of a key by commas";
    EchoReversed "echo-reversed" "turns the order of values round";
    EchoBinAsText "echo-bin-as-text" "takes base64 for the bytes of a -bin value";
    EchoWithoutBin "echo-without-bin" "echoes no -bin values";
    EchoesAll "echoes-all" "echoes what was not meant to be";
    TextCutAtLine "text-cut-at-line" "sends the first line of a status text";
    TextAscii "text-ascii" "sends ? for what is no ASCII in a status text";
    TextEncodedTwice "text-encoded-twice" "percent-encodes a status text twice";
    HighCodesAreUnknown "high-codes-are-unknown" "sends UNKNOWN for UNAUTHENTICATED";
    DetailsMissing "details-missing" "sends no rich details";
    DetailsWithoutCode "details-without-code" "leaves the code out of the rich details";
    AfterIgnored "after-ignored" "ends a stream before the events that were to come first";
    AnySettle "any-settle" "takes any `settle_ms`";
    TextInCharacters "text-in-characters" "counts the characters of a text that is asked for, not its bytes";
    DetailsOneByOne "details-one-by-one" "looks at each of the details, not at all together";
    PutBeforeStatus "put-before-status" "puts although a status is asked for";
    DelayIgnored "delay-ignored" "answers at once where a delay is asked for";
    PaddingShort "padding-short" "pads one byte too few";
    NeverCompresses "never-compresses" "sends its messages plain where gzip is asked for";
    DeadlineUnseen "deadline-unseen" "does not see the deadline";
    WorkGoesOn "work-goes-on" "finishes the work of a call that has gone";
    BrokenCallsStay "broken-calls-stay" "takes a cancelled call for an open one for ever";
    BrokenCallsUncounted "broken-calls-uncounted" "forgets cancelled calls";
    InventoryIgnoresPrefix "inventory-ignores-prefix" "counts everything whatever the prefix";
}

impl Mistake {
    /// The mistake of a switch.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(_, known, _)| *known == name).map(|(mistake, _, _)| *mistake)
    }
}

/// The table as help text.
#[must_use]
pub fn help() -> String {
    let lines = Mistake::TABLE.iter().map(|(_, name, what)| format!("{name}: {what}"));
    lines.collect::<Vec<_>>().join("\n")
}
