"""A simulated Alipay, with a demo shop, for trying the receiver out and for tests.

Start with `notifications` (the requests) and `delivery` (when they are sent again); `planning` makes both of a
`scenario`, for an account of the `world`. `server` composes `gateway`, `cashier` and `shop` behind one port. `signing`
is independent of the receiver's verifier, so that a mistake on one side cannot hide the same mistake on the other.
"""
