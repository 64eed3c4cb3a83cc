"""The product as people run it sends what happened to a receiver that verifies it with the stock library."""

from __future__ import annotations

from pathlib import Path

from tests.oauthflow.webhook_receivers import Receiver, receiving
from tests.product import running_product

from .programs import TIMEOUT_SECONDS, Program


def test_the_worker_sends_what_happened_and_the_receiver_verifies_it(tmp_path: Path) -> None:
    with receiving(Receiver()) as receiver, running_product(tmp_path, workers=True) as product:
        program = Program.of(product, "alice")
        made = program.post("webhooks", url=receiver.url, description="Alerts", events=["credentials.revoked"])
        assert made.status_code == 201, made.text
        tried = program.post(f"webhooks/{made.json()['id']}/test")
        assert tried.json()["status"] == "delivered", tried.text
        receiver.arrived.clear()

        connection = program.connection(Program.of(product, "admin").configure("https://notes.example/mcp"))
        assert program.post(f"connections/{connection}/revoke").status_code == 200
        assert receiver.arrived.wait(TIMEOUT_SECONDS)

        test, event = receiver.verified(made.json()["secret"])
        assert test["event"] == "webhook.test"
        assert (event["event"], event["connection_id"]) == ("credentials.revoked", connection)
        assert made.json()["secret"].removeprefix("whsec_") not in product.log.read_text()
