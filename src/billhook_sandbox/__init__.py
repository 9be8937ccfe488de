"""A sandbox that speaks Stripe's HTTP API, for development and tests without Stripe.

`python -m billhook_sandbox` starts it; Stripe's official SDKs work with it unchanged. It shares no
code with Billhook: the two communicate over HTTP only.

A key names its account: `sk_test_ACCOUNT` or `sk_test_ACCOUNT_anything`. So `sk_test_shop_1` and
`sk_test_shop_2` are two keys of one account (a rolled key), `sk_test_other` is another account,
and `sk_live_shop` is the live mode of the first. Each account has separate data in each mode.
"""

from billhook_sandbox.app import create_sandbox
from billhook_sandbox.options import Options

__all__ = ["Options", "create_sandbox"]
