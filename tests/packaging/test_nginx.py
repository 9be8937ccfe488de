"""deploy/nginx.conf with a real nginx: Billhook below a prefix, with two workers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from api import STRIPE_KEY, connect
from billhook import Client
from http_tokens import ADMIN_KEY, signature
from pages import ROOT
from process import serving
from stripe_events import customer, event, payload

PREFIX = "/billing"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def behind_nginx(database_url: str, sandbox: str, tmp_path: Path) -> Iterator[str]:
    """The address of nginx before a Billhook with two workers."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert not os.environ.get("CI"), "CI needs the Debian package nginx-light"
        pytest.skip("needs the Debian package nginx-light")
    connect(database_url, sandbox, STRIPE_KEY)
    settings = {"BILLHOOK_ROOT_PATH": PREFIX, "BILLHOOK_TRUSTED_PROXIES": "127.0.0.1"}
    port = free_port()
    with serving(database_url, sandbox, tmp_path, "--workers", "2", **settings) as server:
        # As it stands there, except for the addresses and without TLS.
        site = (ROOT / "deploy/nginx.conf").read_text()
        site = re.sub(r" *ssl_certificate.*\n", "", site)
        site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
        site = site.replace("http://127.0.0.1:7130", server.url)
        site = site.replace("X-Forwarded-Proto $scheme", "X-Forwarded-Proto https")
        user = "" if os.geteuid() else "user root;"  # who may read this folder
        (tmp_path / "nginx.conf").write_text(
            f"{user} daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {tmp_path}/bodies;\n"
            f"proxy_temp_path {tmp_path}/proxied; {site} }}"
        )
        command = [program, "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
        nginx = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}{PREFIX}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            nginx.terminate()
            nginx.wait(20)


@pytest.mark.full
def test_everything_works_below_the_prefix(behind_nginx: str) -> None:
    root = behind_nginx + PREFIX
    with httpx.Client() as http:
        # Outside of the prefix is not Billhook.
        assert http.get(f"{behind_nginx}/health").status_code == 404
        described = http.get(f"{root}/openapi.json").json()
        assert [each["url"] for each in described["servers"]] == [PREFIX]
        assert http.get(f"{root}/docs").is_success
        # Where @insforge/sdk calls it: it drops the path of its baseUrl.
        catalog = "/api/payments/stripe/test/catalog"
        key = {"x-api-key": ADMIN_KEY}
        assert http.get(behind_nginx + catalog, headers=key).is_success
        body = payload(event("customer.created", customer()))
        hook = f"{root}/api/webhooks/stripe/test"
        sent = http.post(hook, content=body, headers={"stripe-signature": signature(body)})
        assert sent.json()["handled"] is True

    # An id with slashes, which nginx must not decode.
    with Client(root, ADMIN_KEY) as billing:
        made = billing.products.create("test", name="Tea")
        assert billing.products.get("test", made.product_id).product.name == "Tea"
        name = "tea/green"
        path = f"/api/payments/stripe/test/catalog/products/{quote(name, safe='')}"
        missing = httpx.get(root + path, headers={"x-api-key": ADMIN_KEY})
        assert missing.json()["error"] == "PAYMENT_PRODUCT_NOT_FOUND"
        assert name in missing.json()["message"]


@pytest.mark.full
def test_people_sign_in_to_the_dashboard_below_the_prefix(behind_nginx: str) -> None:
    root = behind_nginx + PREFIX
    with httpx.Client(follow_redirects=True) as http:
        page = http.get(f"{root}/dashboard")
        assert page.url.path == f"{PREFIX}/dashboard/sign-in"
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
        assert links
        assert all(link.startswith(f"{PREFIX}/") for link in links)
        form = {"credential": ADMIN_KEY}
        origin = {"sec-fetch-site": "same-origin"}
        answer = http.post(page.url, data=form, headers=origin, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        cookie = answer.headers["set-cookie"]
        # nginx said that the client came with https.
        assert "Secure" in cookie
        assert f"Path={PREFIX}" in cookie
