"""Explain why a captured message is refused: the code behind `alipay-notify verify`.

Only that command runs it; no receiver or worker does, and it accepts no message that `ingest.authenticate` refuses.
Start with `explain`, then `variants` (changes to try), `advice` (the texts) and `capture` (reading the file).
"""
