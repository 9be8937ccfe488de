"""A sync by dj-stripe, in its own environment: python djstripe.py DSN STRIPE_URL KEY"""

import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.pop(0)  # this file has the name of the package

import django
from django.conf import settings
from django.core.management import call_command

dsn, url, key = sys.argv[1:]
parts = urlsplit(dsn)
settings.configure(
    DEBUG=True,
    SECRET_KEY="bench",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "djstripe"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.lstrip("/"),
            "USER": parts.username or "postgres",
            "PASSWORD": parts.password or "",
            "HOST": parse_qs(parts.query)["host"][0],
        }
    },
    STRIPE_API_HOST=url,
    STRIPE_TEST_SECRET_KEY=key,
    STRIPE_LIVE_MODE=False,
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
)
django.setup()
call_command("migrate", verbosity=0)
from django.db import reset_queries  # noqa: E402
from djstripe.models import APIKey  # noqa: E402

APIKey.objects.get_or_create_by_api_key(key)
began = time.perf_counter()
for model in ("Product", "Price", "Customer", "Subscription"):
    call_command("djstripe_sync_models", model, verbosity=0)
    reset_queries()
seconds = time.perf_counter() - began
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)
print(json.dumps({"seconds": seconds, "peak_mb": int(peak) // 1024}))
