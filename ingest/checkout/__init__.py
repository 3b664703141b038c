"""For the merchant's own server: sign the requests that send a buyer to Alipay, and check the Returns that come back.

This package is public and typed for other Python programs, as are `schemas.events` and `schemas.topics`.
"""
