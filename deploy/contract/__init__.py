"""The contract with programs that consume our events, written from the code that sends them.

    json_schemas   the JSON Schema of each kind of event, from the structs
    examples       one record of each kind, as a topic has it
    asyncapi       the topics: keys, headers, schemas, and how Kafka has to keep them

`alipay-notify schema export` writes them; those in `schemas/` are committed, and a test compares them with the code.
"""
