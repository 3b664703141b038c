"""The admin port: probes, metrics, the API for merchants' programs and operators, and the console.

Start with `app`, which composes the parts, and `guard`, which every request passes first. Then read one part at a time:
`orders`, `held`, `returns`, `feed`, `probes` and `console`; `shapes` and `responses` define the answers.
"""
