"""A simulated Alipay, with a demo shop, for trying the receiver out and for tests.

Start with `notifications` (what is sent) and `delivery` (when it is sent again); `scenario` plans both from a data file
for an account of the `world`. `server` composes `gateway`, `cashier` and `shop` behind one port. `signing` is
independent of the receiver's verifier, so that a mistake on one side cannot hide the same mistake on the other.
"""
