"""What a batch of records does to orders: pure functions, with no I/O, no clock and no random numbers of their own.

A house test forbids `async` and I/O here, so every rule can be tested without a store and runs inside any store's
transaction, on any thread. Read in this order:

    plan         the shapes that go in and out: a snapshot of the store, a write plan
    decision     what each record of a batch becomes: applied, duplicate, stale, parked or quarantined
    loading      the rows that it needs
    transitions  how one trade's state changes: the table of moves
    order_view   what consumers see of an order
    drafting     how a decision becomes rows, events and held notifications
    parking      the life of a held notification
    verdicts     what operators decide about held notifications: accept, discard
"""
