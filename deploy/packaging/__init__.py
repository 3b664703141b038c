"""How the wheel is built: `hook` is what hatchling calls, `namespace` moves our packages under `alipay_notify`.

Neither is part of the wheel.
"""
