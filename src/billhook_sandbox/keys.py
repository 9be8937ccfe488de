"""API keys: a key names its account and its mode."""

from typing import NamedTuple


class ApiKey(NamedTuple):
    restricted: bool
    account: str
    livemode: bool


def parse_key(key: str) -> ApiKey | None:
    """`sk_test_ACCOUNT` or `sk_test_ACCOUNT_anything`; `rk_` for a restricted key."""
    kind, _, rest = key.partition("_")
    mode, _, name = rest.partition("_")
    if kind not in ("sk", "rk") or mode not in ("test", "live") or not name:
        return None
    return ApiKey(kind == "rk", name.split("_")[0], mode == "live")


def masked(key: str) -> str:
    return f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 16 else f"{key[:8]}****"
