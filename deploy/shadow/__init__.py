"""Shadow mode: decide a copy of the notifications that another handler receives, and report where the two differ.

It has a folder of its own, writes nothing else, acknowledges nothing, publishes nothing, and never asks Alipay.

    lines, old_orders   read the imports: notifications with the old handler's answers, and the merchant's orders
    judging             the receiver's own check of one notification (`ingest.receive`)
    book                the shadow's file: each notification, its verdict, and the old handler's answer
    deciding            the workers' own rules (`workers.processing`), on an order store in the same folder
    differences         the comparison of the two, pure
    report              the comparison over the whole book
    server              the port for mirrored notifications
"""
